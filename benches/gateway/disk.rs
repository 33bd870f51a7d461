//! What the disk takes to make 512 bytes durable: the floor of every durable answer.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// Latencies of `fdatasync` after a write of 512 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Fdatasync {
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Longer ones count as this long.
pub const MICROS_MAX: u64 = 100_000_000;
/// Time between two tries beside a load: often enough to see its disk, too seldom to be a load.
const PAUSE: Duration = Duration::from_millis(20);

/// Tries `times` times, one right after the other, on a disk with nothing else to do.
pub fn idle(folder: &Path, times: u32) -> anyhow::Result<Fdatasync> {
    let mut tries = Tries::new(folder)?;
    for _ in 0..times {
        tries.once()?;
    }
    Ok(tries.seen())
}

/// Runs `load`, and tries now and then while it runs.
pub fn beside<T>(
    folder: &Path,
    load: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, Fdatasync)> {
    let stop = Arc::new(AtomicBool::new(false));
    let (mut tries, stopped) = (Tries::new(folder)?, stop.clone());
    let probe = thread::spawn(move || {
        while !stopped.load(Relaxed) {
            tries.once()?;
            thread::sleep(PAUSE);
        }
        anyhow::Ok(tries.seen())
    });
    let result = load();
    stop.store(true, Relaxed);
    let seen = probe.join().expect("the probe ends")?;
    Ok((result?, seen))
}

struct Tries {
    file: fs::File,
    micros: Histogram<u64>,
}

impl Tries {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        let mut file = fs::File::create(folder.join("fdatasync"))?;
        file.write_all(&[0; 512])?;
        file.sync_all()?;
        Ok(Self { file, micros: Histogram::new_with_bounds(1, MICROS_MAX, 3)? })
    }

    fn once(&mut self) -> anyhow::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&[1; 512])?;
        let started = Instant::now();
        self.file.sync_data()?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.micros.saturating_record(micros);
        Ok(())
    }

    fn seen(&self) -> Fdatasync {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a disk")]
        let ms = |quantile| self.micros.value_at_quantile(quantile) as f64 / 1e3;
        Fdatasync { p50_ms: ms(0.5), p99_ms: ms(0.99) }
    }
}
