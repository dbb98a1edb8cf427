//! The little linear algebra that the checker and the Frechet distance need, in f64.

/// Solves three equations by elimination with the largest pivots; nothing where they are singular.
pub(crate) fn solve3(mut matrix: [[f64; 3]; 3], mut right: [f64; 3]) -> Option<[f64; 3]> {
    for i in 0..3 {
        let pivot = (i..3).max_by(|&a, &b| matrix[a][i].abs().total_cmp(&matrix[b][i].abs()))?;
        if matrix[pivot][i].abs() < 1e-12 {
            return None;
        }
        matrix.swap(i, pivot);
        right.swap(i, pivot);
        for row in i + 1..3 {
            let factor = matrix[row][i] / matrix[i][i];
            let pivot_row = matrix[i];
            for (cell, above) in matrix[row].iter_mut().zip(pivot_row) {
                *cell -= factor * above;
            }
            right[row] -= factor * right[i];
        }
    }
    let mut x = [0.0; 3];
    for i in (0..3).rev() {
        let known: f64 = (i + 1..3).map(|j| matrix[i][j] * x[j]).sum();
        x[i] = (right[i] - known) / matrix[i][i];
    }
    Some(x)
}

/// A square matrix, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Matrix {
    size: usize,
    cells: Vec<f64>,
}

impl Matrix {
    /// The matrix with `cell(row, column)` in each place.
    pub(crate) fn from_fn(size: usize, mut cell: impl FnMut(usize, usize) -> f64) -> Self {
        let cells = (0..size * size).map(|i| cell(i / size, i % size)).collect();
        Matrix { size, cells }
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.cells[row * self.size + column]
    }

    pub(crate) fn trace(&self) -> f64 {
        (0..self.size).map(|i| self.at(i, i)).sum()
    }

    pub(crate) fn times(&self, other: &Matrix) -> Matrix {
        Matrix::from_fn(self.size, |i, j| {
            (0..self.size).map(|k| self.at(i, k) * other.at(k, j)).sum()
        })
    }

    /// The eigenvalues of a symmetric matrix, and its eigenvectors as columns, by Jacobi's rotations.
    pub(crate) fn symmetric_eigen(&self) -> (Vec<f64>, Matrix) {
        let n = self.size;
        let mut a = self.clone();
        let mut vectors = Matrix::from_fn(n, |i, j| f64::from(u8::from(i == j)));
        let scale = a.cells.iter().map(|c| c * c).sum::<f64>().max(f64::MIN_POSITIVE);
        // Convergence is quadratic: a matrix of 38 rows takes fewer than ten sweeps.
        for _ in 0..64 {
            let off: f64 = (0..n)
                .flat_map(|i| (0..i).map(move |j| (i, j)))
                .map(|(i, j)| a.at(i, j).powi(2))
                .sum();
            if off <= 1e-28 * scale {
                break;
            }
            for q in 1..n {
                for p in 0..q {
                    rotate(&mut a, &mut vectors, p, q);
                }
            }
        }
        ((0..n).map(|i| a.at(i, i)).collect(), vectors)
    }

    /// The symmetric root of a symmetric matrix; eigenvalues that rounding made negative count as 0.
    pub(crate) fn symmetric_root(&self) -> Matrix {
        let (values, vectors) = self.symmetric_eigen();
        Matrix::from_fn(self.size, |i, j| {
            (0..self.size)
                .map(|k| vectors.at(i, k) * values[k].max(0.0).sqrt() * vectors.at(j, k))
                .sum()
        })
    }
}

/// Turns the plane of the axes `p` and `q` so that `a[p][q]` becomes 0.
fn rotate(a: &mut Matrix, vectors: &mut Matrix, p: usize, q: usize) {
    let n = a.size;
    if a.at(p, q) == 0.0 {
        return;
    }
    let theta = (a.at(q, q) - a.at(p, p)) / (2.0 * a.at(p, q));
    let tan = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cos = 1.0 / (tan * tan + 1.0).sqrt();
    let sin = tan * cos;
    let turn = |m: &mut Matrix, i: usize, j: usize| {
        let (x, y) = (m.cells[i], m.cells[j]);
        m.cells[i] = cos * x - sin * y;
        m.cells[j] = sin * x + cos * y;
    };
    for k in 0..n {
        turn(a, k * n + p, k * n + q);
    }
    for k in 0..n {
        turn(a, p * n + k, q * n + k);
        turn(vectors, k * n + p, k * n + q);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_equations() {
        let x = solve3(
            [[0.0, 2.0, 1.0], [1.0, -1.0, 0.0], [3.0, 0.0, 4.0]],
            [7.0, -1.0, 15.0],
        );
        for (got, want) in x.unwrap().iter().zip([1.0, 2.0, 3.0]) {
            assert!((got - want).abs() < 1e-12);
        }
        assert_eq!(solve3([[1.0; 3]; 3], [1.0; 3]), None);
    }

    #[test]
    fn the_root_squared_is_the_matrix() {
        let half = Matrix::from_fn(6, |i, j| ((i * 7 + j * 3) % 5) as f64 - 1.5);
        let symmetric = Matrix::from_fn(6, |i, j| (0..6).map(|k| half.at(i, k) * half.at(j, k)).sum());
        let root = symmetric.symmetric_root();
        let square = root.times(&root);
        for i in 0..6 {
            for j in 0..6 {
                assert!((square.at(i, j) - symmetric.at(i, j)).abs() < 1e-9);
                assert!((root.at(i, j) - root.at(j, i)).abs() < 1e-9);
            }
        }
    }
}
