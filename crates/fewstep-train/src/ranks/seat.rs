//! Which rank of a run this process is, by what those who start many processes leave in the environment: `fewstep
//! launch` and torchrun, Open MPI, SLURM, and others that speak PMI. It connects to nobody.

use fewstep_data::Part;

use super::error::RanksError;

/// The port of the rendezvous where nobody names one, as torch has it.
const PORT: u16 = 29500;

/// A rank of a run that has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Its number, from 0.
    pub rank: u32,
    /// How many there are.
    pub ranks: u32,
    /// Its number among those of this machine.
    pub local_rank: u32,
    /// How many are on this machine.
    pub local_ranks: u32,
    /// The machine where the ranks find one another.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Who serves the rendezvous.
    pub server: Server,
    /// What the keys of this attempt begin with, where a rendezvous serves several.
    pub attempt: String,
}

/// Who serves the rendezvous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Rank 0.
    Rank0,
    /// Whoever started the ranks.
    Starter,
}

/// What the starters of processes call rank, number of ranks and rank on this machine.
struct Names {
    rank: &'static str,
    ranks: &'static [&'static str],
    local_rank: &'static str,
    local_ranks: &'static str,
}

const TORCHRUN: Names = Names {
    rank: "RANK",
    ranks: &["WORLD_SIZE"],
    local_rank: "LOCAL_RANK",
    local_ranks: "LOCAL_WORLD_SIZE",
};

const OPEN_MPI: Names = Names {
    rank: "OMPI_COMM_WORLD_RANK",
    ranks: &["OMPI_COMM_WORLD_SIZE"],
    local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
    local_ranks: "OMPI_COMM_WORLD_LOCAL_SIZE",
};

/// The number of tasks of the step, which may be fewer than the job's.
const SLURM: Names = Names {
    rank: "SLURM_PROCID",
    ranks: &["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"],
    local_rank: "SLURM_LOCALID",
    local_ranks: "SLURM_STEP_TASKS_PER_NODE",
};

const PMI: Names = Names {
    rank: "PMI_RANK",
    ranks: &["PMI_SIZE"],
    local_rank: "MPI_LOCALRANKID",
    local_ranks: "MPI_LOCALNRANKS",
};

/// The environment.
type Get<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Seat {
    /// The part of the data that is its own.
    pub fn part(&self) -> Part {
        Part {
            rank: self.rank.into(),
            ranks: self.ranks.into(),
        }
    }

    /// The seat that the environment of this process gives it; none where it is alone.
    ///
    /// # Errors
    /// Numbers that are none, or an environment that does not say where ranks on several machines meet.
    pub fn of_process() -> Result<Option<Self>, RanksError> {
        Seat::from_environment(&|name| std::env::var(name).ok())
    }

    /// The seat that an environment gives.
    ///
    /// # Errors
    /// As [`Seat::of_process`].
    pub fn from_environment(get: Get) -> Result<Option<Self>, RanksError> {
        let get = &|name: &str| get(name).filter(|word| !word.is_empty());
        let within_slurm_step = get("SLURM_STEP_ID").is_some();
        let names = if get(TORCHRUN.rank).is_some() || get(TORCHRUN.ranks[0]).is_some() {
            &TORCHRUN
        } else if get(OPEN_MPI.rank).is_some() {
            &OPEN_MPI
        } else if get(SLURM.rank).is_some() && within_slurm_step {
            // A batch script has a rank too, and is no rank: only what srun starts is.
            &SLURM
        } else if get(PMI.rank).is_some() {
            &PMI
        } else {
            return Ok(None);
        };
        let rank = number(get, &[names.rank], names)?;
        let ranks = number(get, names.ranks, names)?;
        if rank >= ranks {
            return Err(RanksError::Environment(format!(
                "{} is {rank} and must be below {}, which is {ranks}",
                names.rank, names.ranks[0]
            )));
        }
        if ranks == 1 {
            return Ok(None);
        }
        let local_rank = match get(names.local_rank) {
            Some(_) => number(get, &[names.local_rank], names)?,
            None => 0,
        };
        let served = get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|word| word == "True");
        Ok(Some(Seat {
            rank,
            ranks,
            local_rank,
            local_ranks: get(names.local_ranks)
                .and_then(|word| of_machine(&word, get("SLURM_NODEID").as_deref()))
                .unwrap_or(1),
            host: host(get)?,
            port: port(get)?,
            server: if served { Server::Starter } else { Server::Rank0 },
            attempt: get("TORCHELASTIC_RESTART_COUNT").unwrap_or_default(),
        }))
    }
}

/// The number under the first of these names that is there.
fn number(get: Get, any_of: &[&str], names: &Names) -> Result<u32, RanksError> {
    let Some((name, word)) = any_of.iter().find_map(|name| Some((name, get(name)?))) else {
        return Err(RanksError::Environment(format!(
            "{} is not set, though {} is or {} is; whoever starts the ranks must set them all",
            any_of[0], names.rank, names.ranks[0]
        )));
    };
    word.parse()
        .map_err(|_| RanksError::Environment(format!("{name} is `{word}`, which is no number of a rank")))
}

/// Where the ranks meet: where the environment says, on the first of SLURM's machines, or on this one where all are.
fn host(get: Get) -> Result<String, RanksError> {
    if let Some(host) = get("MASTER_ADDR") {
        return Ok(host);
    }
    if let Some(list) = get("SLURM_STEP_NODELIST").or_else(|| get("SLURM_JOB_NODELIST")) {
        return Ok(first_of(&list));
    }
    let together = [
        ("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_SIZE"),
        ("LOCAL_WORLD_SIZE", "WORLD_SIZE"),
        ("MPI_LOCALNRANKS", "PMI_SIZE"),
    ]
    .iter()
    .any(|(here, all)| get(here).is_some() && get(here) == get(all));
    match together {
        true => Ok("127.0.0.1".to_owned()),
        false => Err(RanksError::Environment(
            "nothing says where the ranks meet; set MASTER_ADDR to the machine of rank 0, in the environment of all ranks"
                .to_owned(),
        )),
    }
}

/// The number for this machine: a number, or in SLURM's list, where `4(x2),1` is two machines of 4 and one of 1, the one
/// at the place of this machine. None where that is not to be known: it is only for plans.
fn of_machine(list: &str, place: Option<&str>) -> Option<u32> {
    let mut place: u32 = place.map_or(Some(0), |place| place.parse().ok())?;
    for part in list.split(',') {
        let (number, times) = match part.split_once("(x") {
            Some((number, times)) => (number, times.strip_suffix(')')?.parse().ok()?),
            None => (part, 1),
        };
        match place.checked_sub(times) {
            Some(rest) => place = rest,
            None => return number.parse().ok().filter(|number| *number > 0),
        }
    }
    None
}

/// The first machine of SLURM's list: `node[003-007,9],other` begins with `node003`.
fn first_of(list: &str) -> String {
    let end = list.find(['[', ',']).unwrap_or(list.len());
    let (name, rest) = list.split_at(end);
    match rest.strip_prefix('[') {
        None => name.to_owned(),
        Some(numbers) => {
            let end = numbers.find(['-', ',', ']']).unwrap_or(numbers.len());
            let after = numbers.find(']').map_or("", |close| &numbers[close + 1..]);
            let tail = after.split(',').next().unwrap_or("");
            format!("{name}{}{tail}", &numbers[..end])
        }
    }
}

/// Jobs that share a machine of SLURM's have ports of their own.
fn port(get: Get) -> Result<u16, RanksError> {
    if let Some(word) = get("MASTER_PORT") {
        return word
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| RanksError::Environment(format!("MASTER_PORT is `{word}`, which is no port")));
    }
    let job = get("SLURM_JOB_ID").and_then(|word| word.parse::<u64>().ok());
    Ok(match job {
        Some(job) => 20_000 + (job % 10_000) as u16,
        None => PORT,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(words: &[(&str, &str)]) -> Result<Option<Seat>, String> {
        let get = |name: &str| {
            let found = words.iter().find(|(known, _)| *known == name);
            found.map(|(_, word)| (*word).to_owned())
        };
        Seat::from_environment(&get).map_err(|error| error.to_string())
    }

    fn at(rank: u32, ranks: u32, local_rank: u32, host: &str, port: u16) -> Seat {
        Seat {
            rank,
            ranks,
            local_rank,
            local_ranks: 1,
            host: host.to_owned(),
            port,
            server: Server::Rank0,
            attempt: String::new(),
        }
    }

    fn beside(local_ranks: u32, seat: Seat) -> Seat {
        Seat { local_ranks, ..seat }
    }

    #[test]
    fn torchrun_serves_the_rendezvous_itself() {
        let words = [
            ("RANK", "5"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "node7"),
            ("MASTER_PORT", "4711"),
        ];
        assert_eq!(seat(&words), Ok(Some(beside(4, at(5, 8, 1, "node7", 4711)))));
        let served = [
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
        ];
        let seat = seat(&[&words[..], &served].concat()).unwrap().unwrap();
        assert_eq!((seat.server, &*seat.attempt), (Server::Starter, "2"));
    }

    #[test]
    fn srun_and_mpirun_are_known() {
        let slurm = [
            ("SLURM_PROCID", "3"),
            ("SLURM_NTASKS", "16"),
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_JOB_NODELIST", "gpu[003-007,9]-a,login"),
            ("SLURM_JOB_ID", "1234567"),
            ("SLURM_STEP_TASKS_PER_NODE", "2(x1),1,1"),
            ("SLURM_NODEID", "1"),
        ];
        // The batch script itself.
        assert_eq!(seat(&slurm), Ok(None));
        let step = [&slurm[..], &[("SLURM_STEP_ID", "0")]].concat();
        assert_eq!(seat(&step), Ok(Some(at(3, 4, 1, "gpu003-a", 24_567))));
        // Whoever runs mpirun or torchrun within a step means those.
        let mpi = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ];
        assert_eq!(seat(&mpi), Ok(Some(beside(2, at(1, 2, 1, "127.0.0.1", 29500)))));
        assert_eq!(seat(&[&step[..], &mpi].concat()).unwrap().unwrap().rank, 1);
        let pmi = [("PMI_RANK", "1"), ("PMI_SIZE", "3"), ("MASTER_ADDR", "a")];
        assert_eq!(seat(&pmi), Ok(Some(at(1, 3, 0, "a", 29500))));
    }

    #[test]
    fn ranks_of_a_machine_are_counted() {
        for (list, place, count) in [
            ("8", None, Some(8)),
            ("4(x2),1", Some("0"), Some(4)),
            ("4(x2),1", Some("1"), Some(4)),
            ("4(x2),1", Some("2"), Some(1)),
            ("4(x2),1", Some("3"), None),
            ("4(y2)", None, None),
            ("0", None, None),
        ] {
            assert_eq!(of_machine(list, place), count, "{list} {place:?}");
        }
    }

    #[test]
    fn lists_of_machines_begin_with_the_first() {
        for (list, first) in [
            ("a", "a"),
            ("a,b", "a"),
            ("n[1,4]", "n1"),
            ("n[08-11]", "n08"),
            ("n[08-11]x,m", "n08x"),
        ] {
            assert_eq!(first_of(list), first);
        }
    }

    #[test]
    fn alone_is_no_rank() {
        assert_eq!(seat(&[]), Ok(None));
        assert_eq!(seat(&[("RANK", "0"), ("WORLD_SIZE", "1")]), Ok(None));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (words, said) in [
            (&[("RANK", "0")][..], "WORLD_SIZE is not set"),
            (&[("WORLD_SIZE", "2")], "RANK is not set"),
            (&[("RANK", "two"), ("WORLD_SIZE", "2")], "RANK is `two`"),
            (
                &[("RANK", "2"), ("WORLD_SIZE", "2")],
                "RANK is 2 and must be below",
            ),
            (&[("RANK", "1"), ("WORLD_SIZE", "2")], "set MASTER_ADDR"),
            (
                &[
                    ("RANK", "1"),
                    ("WORLD_SIZE", "2"),
                    ("MASTER_ADDR", "a"),
                    ("MASTER_PORT", "0"),
                ],
                "MASTER_PORT is `0`",
            ),
        ] {
            let error = seat(words).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
