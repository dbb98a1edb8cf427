//! A convolution with a faster way back on the CPU.

use tch::Tensor;

use crate::{TorchError, ffi};

/// LibTorch's convolution with square stride and padding: `[B, I, H, W]`, weight `[O, I, kh, kw]`, bias `[O]` to
/// `[B, O, H', W']`.
///
/// On the CPU, where gradients are recorded and the result has few places (B H' W'), the weight's gradient is taken as
/// one matrix product instead of oneDNN's, which is slow there. Its sums run in another order; in 16 bits both are
/// rounded once. Everything else is LibTorch's own.
///
/// # Errors
/// What LibTorch refuses: shapes, dtypes or devices that do not fit.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: i64,
    padding: i64,
) -> Result<Tensor, TorchError> {
    let bias = bias.map_or(std::ptr::null_mut(), ffi::pointer);
    let mut output = std::ptr::null_mut();
    // SAFETY: pointers to live tensors (`bias` may be null), of which the shim copies the handles.
    ffi::check(unsafe {
        ffi::fewstep_conv2d(
            ffi::pointer(x),
            ffi::pointer(weight),
            bias,
            stride,
            padding,
            &raw mut output,
        )
    })?;
    // SAFETY: without an error the shim has set `output` to a new handle, which is ours.
    Ok(unsafe { Tensor::from_ptr(output.cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// How a convolution is laid out: batch, inputs, outputs, side, kernel, stride, padding.
    type Case = [i64; 7];

    fn tensors(case: Case, kind: Kind) -> [Tensor; 3] {
        let [batch, inputs, outputs, side, kernel, ..] = case;
        let numbers = |shape: &[i64], step: f64| {
            let count = shape.iter().product::<i64>();
            let values = (Tensor::arange(count, (Kind::Double, Device::Cpu)) * step).sin();
            values.reshape(shape).to_kind(kind).set_requires_grad(true)
        };
        [
            numbers(&[batch, inputs, side, side], 0.7),
            numbers(&[outputs, inputs, kernel, kernel], 0.3),
            numbers(&[outputs], 1.1),
        ]
    }

    fn gradients(y: &Tensor, inputs: &[Tensor]) -> Vec<Tensor> {
        let loss = (y.to_kind(Kind::Float).sin() * 3.0).sum(Kind::Float);
        Tensor::run_backward(&[loss], inputs, false, false)
    }

    #[test]
    fn gradients_are_those_of_libtorch() {
        let cases: [Case; 5] = [
            [2, 8, 16, 4, 3, 1, 1],
            [1, 3, 5, 7, 3, 2, 1],
            [2, 6, 4, 5, 1, 1, 0],
            [1, 4, 4, 9, 3, 2, 0],
            // Too many places: LibTorch's own.
            [4, 2, 3, 20, 3, 1, 1],
        ];
        for case in cases {
            let [.., stride, padding] = case;
            for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 1e-2)] {
                let inputs = tensors(case, kind);
                let [x, weight, bias] = &inputs;
                let theirs = x.conv2d(weight, Some(bias), [stride; 2], [padding; 2], [1, 1], 1);
                let ours = conv2d(x, weight, Some(bias), stride, padding).unwrap();
                assert_eq!(ours, theirs, "{case:?} {kind:?}");
                let pairs = gradients(&ours, &inputs)
                    .into_iter()
                    .zip(gradients(&theirs, &inputs));
                for (ours, theirs) in pairs {
                    assert_eq!((ours.size(), ours.kind()), (theirs.size(), kind));
                    let scale = theirs.abs().max().double_value(&[]);
                    let far = (ours - theirs).abs().max().double_value(&[]) / scale;
                    assert!(far <= tolerance, "{case:?} {kind:?}: {far}");
                }
            }
        }
    }

    #[test]
    fn only_what_wants_gradients_gets_them() {
        let [x, weight, _] = tensors([1, 3, 4, 4, 3, 1, 1], Kind::Float);
        let x = x.detach();
        let y = conv2d(&x, &weight, None, 1, 1).unwrap();
        assert_eq!(gradients(&y, &[weight]).len(), 1);
        let [x, weight, _] = tensors([1, 3, 4, 4, 3, 1, 1], Kind::Float);
        let y = conv2d(&x, &weight.detach(), None, 1, 1).unwrap();
        assert_eq!(gradients(&y, &[x]).len(), 1);
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() {
        let [x, ..] = tensors([1, 3, 4, 4, 3, 1, 1], Kind::Float);
        let [_, weight, _] = tensors([1, 5, 4, 4, 3, 1, 1], Kind::Float);
        let error = conv2d(&x, &weight, None, 1, 1).unwrap_err();
        assert!(error.to_string().contains("channels"), "{error}");
    }
}
