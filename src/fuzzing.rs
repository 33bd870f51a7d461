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
pub const TARGETS: [Target; 6] = [
    Target { name: "stored", try_out: store::fuzzing::stored, seeds: store::fuzzing::stored_seeds },
    Target { name: "keys", try_out: store::fuzzing::keys, seeds: store::fuzzing::key_seeds },
    Target { name: "answer", try_out: upstream::fuzzing::answer, seeds: upstream::fuzzing::seeds },
    Target { name: "ingest", try_out: door::fuzzing::ingest, seeds: door::fuzzing::ingest_seeds },
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
    use std::{collections::BTreeMap, env, fs, path::PathBuf};

    use super::*;

    /// Of each target: it is to be read, not to be downloaded.
    const CORPUS_FILES_MAX: usize = 64;

    fn corpus(target: &Target) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
    }

    fn seeds(target: &Target) -> BTreeMap<String, Vec<u8>> {
        let name = |nth| format!("real-{nth:02}");
        (1..).map(name).zip((target.seeds)()).collect()
    }

    #[test]
    fn every_input_of_the_corpus_keeps_the_promises() {
        for target in &TARGETS {
            let inputs = fs::read_dir(corpus(target)).unwrap();
            let paths: Vec<_> = inputs.map(|input| input.unwrap().path()).collect();
            assert!(paths.len() <= CORPUS_FILES_MAX, "{}: {} files", target.name, paths.len());
            for path in paths {
                (target.try_out)(&fs::read(path).unwrap());
            }
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
