//! What fuzzers feed: one function a target, which panics where a promise is broken. Exists in
//! tests and under `cfg(fuzzing)` alone. `fuzz/` runs these in libFuzzer, and the tests below
//! replay `fuzz/corpus`.

use crate::{config, door, store, upstream};

/// Something that reads bytes from outside.
pub struct Target {
    /// The name of the fuzz target and of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Tries one input. Says whether it was taken rather than refused.
    pub try_out: fn(&[u8]) -> bool,
    /// Real encodings to begin with, each of which is taken.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 7] = [
    Target { name: "stored", try_out: store::fuzzing::stored, seeds: store::fuzzing::stored_seeds },
    Target { name: "keys", try_out: store::fuzzing::keys, seeds: store::fuzzing::key_seeds },
    Target { name: "answer", try_out: upstream::fuzzing::answer, seeds: upstream::fuzzing::seeds },
    Target { name: "ingest", try_out: door::fuzzing::ingest, seeds: door::fuzzing::ingest_seeds },
    Target {
        name: "http",
        try_out: door::http::fuzzing::request,
        seeds: door::http::fuzzing::seeds,
    },
    Target {
        name: "receipt",
        try_out: door::fuzzing::receipt,
        seeds: door::fuzzing::receipt_seeds,
    },
    Target { name: "config", try_out: config::fuzzing::config, seeds: config::fuzzing::seeds },
];

/// Tries one input on the target of this name.
pub fn try_out(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    (target.try_out)(input);
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, env, fs, panic, path::PathBuf};

    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

    use super::*;

    /// Of each target: it is to be read, not to be downloaded.
    const CORPUS_FILES_MAX: usize = 72;

    fn corpus(target: &Target) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
    }

    fn inputs(target: &Target) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> =
            fs::read_dir(corpus(target)).unwrap().map(|input| input.unwrap().path()).collect();
        assert!(paths.len() <= CORPUS_FILES_MAX, "{}: {} files", target.name, paths.len());
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    fn seeds(target: &Target) -> BTreeMap<String, Vec<u8>> {
        let name = |nth| format!("real-{nth:02}");
        (1..).map(name).zip((target.seeds)()).collect()
    }

    #[test]
    fn every_input_of_the_corpus_keeps_the_promises() {
        for target in &TARGETS {
            for input in inputs(target) {
                (target.try_out)(&input);
            }
        }
    }

    /// A short run without libFuzzer, always the same: `FUZZ_SEED` makes it another one, and
    /// `FUZZ_INPUTS` a longer one.
    #[test]
    fn inputs_like_those_of_the_corpus_keep_the_promises() {
        let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let mut random = StdRng::seed_from_u64(number("FUZZ_SEED").unwrap_or(1));
        for target in &TARGETS {
            let corpus = inputs(target);
            for _ in 0..number("FUZZ_INPUTS").unwrap_or(INPUTS) {
                let mut input = corpus.choose(&mut random).unwrap().clone();
                for _ in 0..random.random_range(1..6) {
                    alter(&mut input, &corpus, &mut random);
                }
                let tried = panic::catch_unwind(|| (target.try_out)(&input));
                assert!(tried.is_ok(), "{}: b\"{}\"", target.name, input.escape_ascii());
            }
        }
    }

    /// Of each target.
    const INPUTS: u64 = 1_000;

    /// As libFuzzer does it, but without looking at what comes of it.
    fn alter(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut StdRng) {
        let length = input.len();
        let at = random.random_range(0..=length);
        let end = random.random_range(at..=length.min(at + 12));
        let other = corpus.choose(random).unwrap();
        let from = random.random_range(0..=other.len());
        let part = &other[from..random.random_range(from..=other.len().min(from + 40))];
        match random.random_range(0..6) {
            0 => drop(input.splice(at..end, [])),
            1 => drop(input.splice(at..at, part.iter().copied())),
            2 => drop(input.splice(at..end, part.iter().copied())),
            3 => drop(input.splice(at.., other[from..].iter().copied())),
            4 => drop(input.splice(at..at, input[at..end].to_vec())),
            _ if at < length => input[at] ^= 1 << random.random_range(0..8),
            _ => input.push(random.random()),
        }
    }

    #[test]
    fn every_real_encoding_is_taken() {
        for target in &TARGETS {
            for (name, seed) in seeds(target) {
                assert!((target.try_out)(&seed), "{}: {name} is refused", target.name);
            }
        }
    }

    /// `UPDATE_CORPUS=1` makes them so.
    #[test]
    fn the_corpus_holds_the_real_encodings_of_today() {
        for target in &TARGETS {
            let seeds = seeds(target);
            if env::var_os("UPDATE_CORPUS").is_some() {
                fs::create_dir_all(corpus(target)).unwrap();
                for (name, seed) in &seeds {
                    fs::write(corpus(target).join(name), seed).unwrap();
                }
            }
            for (name, seed) in seeds {
                let held = fs::read(corpus(target).join(&name)).unwrap_or_default();
                assert!(held == seed, "{}/{name} is out of date: make corpus", target.name);
            }
        }
    }

    #[test]
    fn every_target_has_its_fuzzer() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for Target { name, .. } in &TARGETS {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            let fuzzer = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs")));
            assert!(fuzzer.unwrap().contains(&format!("try_out(\"{name}\"")), "{name}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }
}
