//! The disk of the shim: what is on it, and what survives a cut. `shim.c` says how it is kept.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rand::{RngExt, rngs::StdRng};

const PAGE_BYTES: usize = 4_096;

/// What survives of the things that the process wrote and had not yet flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteBack {
    /// Nothing.
    Nothing,
    /// Each page with a probability of so many percent, and some of the journal.
    Pages(u32),
}

/// Brings all of `live` to the empty disk in `disk`, as if everything had been flushed.
pub(crate) fn format(live: &Path, disk: &Path) {
    fs::create_dir_all(disk).unwrap();
    let mut journal = String::new();
    let mut files = 0;
    let mut folders = vec![live.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(live).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                journal.push_str(&format!("mkdir {name}\n"));
                folders.push(path);
            } else {
                journal.push_str(&format!("link {files} {name}\n"));
                fs::copy(&path, disk.join(files.to_string())).unwrap();
                files += 1;
            }
        }
    }
    journal.push_str("commit\n");
    fs::write(disk.join("journal"), journal).unwrap();
}

/// Makes in `survivor` what is found on the disk after a cut.
pub(crate) fn survive(
    live: &Path,
    disk: &Path,
    survivor: &Path,
    write_back: WriteBack,
    random: &mut StdRng,
) {
    let journal = fs::read_to_string(disk.join("journal")).unwrap();
    // The last line may have been torn by the cut.
    let lines: Vec<&str> =
        journal.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
    let committed = lines.iter().rposition(|line| *line == "commit").map_or(0, |at| at + 1);
    let kept = match write_back {
        WriteBack::Nothing => committed,
        WriteBack::Pages(_) => random.random_range(committed..=lines.len()),
    };
    let names = Names::after(&lines[..kept]);
    let live_names = Names::after(&lines);
    let lengths = truncations(&lines[committed..kept]);

    fs::create_dir_all(survivor).unwrap();
    for folder in &names.folders {
        fs::create_dir_all(survivor.join(folder)).unwrap();
    }
    for (name, id) in &names.files {
        let mut bytes = fs::read(disk.join(id)).unwrap_or_default();
        if let Some(length) = lengths.get(id) {
            bytes.resize(*length, 0);
        }
        if let (WriteBack::Pages(percent), Some(path)) = (write_back, live_names.path(id)) {
            let written = fs::read(live.join(path)).unwrap();
            write_some_back(&mut bytes, &written, percent, random);
        }
        fs::write(survivor.join(name), bytes).unwrap();
    }
}

/// Takes over, of the pages that differ, so many percent.
fn write_some_back(bytes: &mut Vec<u8>, written: &[u8], percent: u32, random: &mut StdRng) {
    for (index, page) in written.chunks(PAGE_BYTES).enumerate() {
        let at = index * PAGE_BYTES;
        let end = at + page.len();
        let same = bytes.get(at..end) == Some(page);
        if !same && random.random_ratio(percent, 100) {
            bytes.resize(bytes.len().max(end), 0);
            bytes[at..end].copy_from_slice(page);
        }
    }
}

/// The folders, and the files by name, each with the name of its data.
#[derive(Default)]
struct Names {
    folders: Vec<PathBuf>,
    files: BTreeMap<String, String>,
}

impl Names {
    fn after(lines: &[&str]) -> Self {
        let mut names = Self::default();
        for line in lines {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["mkdir", name] => names.folders.push(PathBuf::from(name)),
                ["link", id, name] => {
                    names.files.insert((*name).to_owned(), (*id).to_owned());
                }
                ["unlink", name] => {
                    names.files.remove(*name);
                }
                ["rename", from, to] => {
                    let id = names.files.remove(*from).expect("the shim saw it made");
                    names.files.insert((*to).to_owned(), id);
                }
                ["truncate", _, _] | ["commit"] => {}
                _ => panic!("the shim's journal has a line {line:?}"),
            }
        }
        names
    }

    fn path(&self, id: &str) -> Option<&str> {
        self.files.iter().find(|(_, known)| *known == id).map(|(name, _)| name.as_str())
    }
}

fn truncations(lines: &[&str]) -> BTreeMap<String, usize> {
    let mut lengths = BTreeMap::new();
    for line in lines {
        if let ["truncate", id, length] = line.split(' ').collect::<Vec<_>>().as_slice() {
            lengths.insert((*id).to_owned(), length.parse().unwrap());
        }
    }
    lengths
}
