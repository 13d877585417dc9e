//! Batches, read ahead by threads, in an order and with values that the number of threads doesn't change.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{BatchSampler, Dataset};
use crate::{Error, Result, Rng};

/// What a sample that can't be read does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Ends the epoch with the error (evaluation, where every sample counts).
    Fatal,
    /// Is reported and replaced by another of its group, chosen by (seed, epoch, position);
    /// when this many in a row can't be read either, the last error is fatal.
    Replace(usize),
}

/// How the loader reads.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Threads that read ahead; 0 reads on the caller's thread.
    pub workers: usize,
    /// Batches that a thread may be ahead of the caller.
    pub prefetch: usize,
    /// The run's seed.
    pub seed: u64,
    /// This process: ranks above 0 draw from streams of their own.
    pub rank: usize,
    /// What a broken sample does.
    pub on_error: OnError,
}

impl Default for LoaderOptions {
    /// 2 threads, 2 batches ahead each, seed 0, ten replacements of a broken sample.
    fn default() -> Self {
        Self { workers: 2, prefetch: 2, seed: 0, rank: 0, on_error: OnError::Replace(10) }
    }
}

/// A collated batch and what it was made of.
#[derive(Debug, Clone)]
pub struct Batch<B> {
    /// What `collate` made.
    pub data: B,
    /// The samples' indices, replacements included.
    pub indices: Vec<usize>,
    /// The samples' names, for messages.
    pub names: Vec<String>,
}

type Collate<T, B> = dyn Fn(Vec<T>) -> Result<B> + Send + Sync;

/// Batches of a data set. Cheap to clone.
pub struct DataLoader<D: Dataset + ?Sized, B> {
    source: Arc<Source<D, B>>,
    sampler: Arc<dyn BatchSampler>,
}

impl<D: Dataset + ?Sized, B> Clone for DataLoader<D, B> {
    fn clone(&self) -> Self {
        Self { source: self.source.clone(), sampler: self.sampler.clone() }
    }
}

struct Source<D: Dataset + ?Sized, B> {
    dataset: Arc<D>,
    collate: Box<Collate<D::Item, B>>,
    options: LoaderOptions,
}

impl<D: Dataset + ?Sized + 'static, B: Send + 'static> DataLoader<D, B> {
    /// Reads `dataset` in the order of `sampler` and joins samples with `collate` (on the reading thread).
    pub fn new(
        dataset: Arc<D>,
        sampler: Box<dyn BatchSampler>,
        collate: impl Fn(Vec<D::Item>) -> Result<B> + Send + Sync + 'static,
        options: LoaderOptions,
    ) -> Self {
        let source = Source { dataset, collate: Box::new(collate), options };
        Self { source: Arc::new(source), sampler: sampler.into() }
    }

    /// Number of batches of an epoch, as the sampler counts it.
    pub fn len(&self) -> usize {
        self.sampler.len()
    }

    /// Whether an epoch has no batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it reads.
    pub fn dataset(&self) -> &Arc<D> {
        &self.source.dataset
    }

    /// Whether an epoch never ends.
    pub fn infinite(&self) -> bool {
        self.sampler.infinite()
    }

    /// The batches of `epoch` from batch `start` on. Reading begins now; dropping the iterator ends it.
    pub fn epoch(&self, epoch: u64, start: usize) -> Epoch<B> {
        let mut batches = self.sampler.batches(epoch);
        let mut position = 0u64;
        for _ in 0..start {
            position += batches.next().map_or(0, |b| b.len() as u64);
        }
        let jobs = Jobs { batches, epoch, position, next: 0 };
        let options = &self.source.options;
        let inner = if options.workers == 0 {
            let source = self.source.clone();
            let mut jobs = jobs;
            Inner::Inline(Box::new(move || {
                let (_, job) = jobs.take()?;
                Some(source.load_guarded(&job, &|| false).unwrap_or_else(|| Err(stopped())))
            }))
        } else {
            let limit = options.workers * options.prefetch.max(1);
            let queue = Arc::new(Queue {
                state: Mutex::new(State { jobs, ready: BTreeMap::new(), taken: 0, last: None, stop: false }),
                changed: Condvar::new(),
                limit: limit as u64,
            });
            let mut workers = Vec::new();
            for i in 0..options.workers {
                let (queue, source) = (queue.clone(), self.source.clone());
                let spawned =
                    std::thread::Builder::new().name(format!("loader {i}")).spawn(move || queue.work(&source));
                match spawned {
                    Ok(handle) => workers.push(handle),
                    Err(e) => {
                        tracing::warn!("can't start loader thread {i}: {e}");
                        break;
                    }
                }
            }
            if workers.is_empty() {
                // No thread to be had: the caller reads.
                let source = self.source.clone();
                Inner::Inline(Box::new(move || {
                    let (_, job) = queue.lock().jobs.take()?;
                    Some(source.load_guarded(&job, &|| false).unwrap_or_else(|| Err(stopped())))
                }))
            } else {
                Inner::Threads { queue, workers }
            }
        };
        Epoch { inner, waited: Duration::ZERO, failed: false }
    }
}

/// One batch to read.
struct Job {
    epoch: u64,
    /// Position in the epoch of the first sample.
    position: u64,
    indices: Vec<usize>,
}

struct Jobs {
    batches: Box<dyn Iterator<Item = Vec<usize>> + Send>,
    epoch: u64,
    position: u64,
    next: u64,
}

impl Jobs {
    fn take(&mut self) -> Option<(u64, Job)> {
        let indices = self.batches.next()?;
        let job = Job { epoch: self.epoch, position: self.position, indices };
        self.position += job.indices.len() as u64;
        self.next += 1;
        Some((self.next - 1, job))
    }
}

fn stopped() -> Error {
    Error::Run("the loader was stopped".into())
}

impl<D: Dataset + ?Sized, B> Source<D, B> {
    /// The batch of `job`, or nothing when `stop` said so in between. A panic is an error like others.
    fn load_guarded(&self, job: &Job, stop: &dyn Fn() -> bool) -> Option<Result<Batch<B>>> {
        catch_unwind(AssertUnwindSafe(|| self.load(job, stop))).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            let names: Vec<_> = job.indices.iter().map(|i| self.dataset.name(*i)).collect();
            Some(Err(Error::Run(format!("reading {} panicked: {what}", names.join(", ")))))
        })
    }

    fn load(&self, job: &Job, stop: &dyn Fn() -> bool) -> Option<Result<Batch<B>>> {
        let mut items = Vec::with_capacity(job.indices.len());
        let mut indices = Vec::with_capacity(job.indices.len());
        for (i, &index) in job.indices.iter().enumerate() {
            if stop() {
                return None;
            }
            match self.sample(job.epoch, job.position + i as u64, index) {
                Ok((index, item)) => {
                    indices.push(index);
                    items.push(item);
                }
                Err(e) => return Some(Err(e)),
            }
        }
        let names: Vec<String> = indices.iter().map(|i| self.dataset.name(*i)).collect();
        Some((self.collate)(items).map(|data| Batch { data, indices, names }))
    }

    fn sample(&self, epoch: u64, position: u64, index: usize) -> Result<(usize, D::Item)> {
        let key = |attempt: u64| {
            let mut parts = vec![epoch, position];
            // One process and the first attempt have the plain key.
            if self.options.rank > 0 || attempt > 0 {
                parts.extend([self.options.rank as u64, attempt]);
            }
            Rng::keyed(self.options.seed, &parts)
        };
        let mut index = index;
        let mut attempt = 0;
        loop {
            let mut rng = key(attempt);
            if attempt > 0 {
                index = self.other(index, &mut rng);
            }
            let error = match self.dataset.get(index, &mut rng) {
                Ok(item) => return Ok((index, item)),
                Err(e) => e,
            };
            match self.options.on_error {
                // A wrong config won't read the next sample either.
                OnError::Replace(limit) if attempt < limit as u64 && !error.is_usage() => {
                    tracing::warn!("skipped {} ({error}); another is taken instead", self.dataset.name(index));
                    attempt += 1;
                }
                _ => return Err(error),
            }
        }
    }

    /// A random other sample, of the group of `index` where that is found.
    fn other(&self, index: usize, rng: &mut Rng) -> usize {
        let (len, flag) = (self.dataset.len(), self.dataset.flag(index));
        for _ in 0..1000 {
            let i = rng.below(len);
            if i != index && self.dataset.flag(i) == flag {
                return i;
            }
        }
        rng.below(len)
    }
}

struct State<B> {
    jobs: Jobs,
    ready: BTreeMap<u64, Result<Batch<B>>>,
    /// Number of batches that the caller has taken.
    taken: u64,
    /// Number of batches of the epoch, once known.
    last: Option<u64>,
    stop: bool,
}

struct Queue<B> {
    state: Mutex<State<B>>,
    changed: Condvar,
    limit: u64,
}

impl<B: Send> Queue<B> {
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State<B>>) -> MutexGuard<'a, State<B>> {
        self.changed.wait(guard).unwrap_or_else(|e| e.into_inner())
    }

    fn work<D: Dataset + ?Sized>(&self, source: &Source<D, B>) {
        loop {
            let (ticket, job) = {
                let mut state = self.lock();
                while !state.stop && state.last.is_none() && state.jobs.next >= state.taken + self.limit {
                    state = self.wait(state);
                }
                if state.stop || state.last.is_some() {
                    return;
                }
                match state.jobs.take() {
                    Some(job) => job,
                    None => {
                        state.last = Some(state.jobs.next);
                        self.changed.notify_all();
                        return;
                    }
                }
            };
            let Some(batch) = source.load_guarded(&job, &|| self.lock().stop) else { return };
            self.lock().ready.insert(ticket, batch);
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Result<Batch<B>>> {
        let mut state = self.lock();
        loop {
            let ticket = state.taken;
            if let Some(batch) = state.ready.remove(&ticket) {
                state.taken += 1;
                self.changed.notify_all();
                return Some(batch);
            }
            if state.stop || state.last.is_some_and(|last| ticket >= last) {
                return None;
            }
            state = self.wait(state);
        }
    }

    fn stop(&self) {
        let mut state = self.lock();
        state.stop = true;
        state.ready.clear();
        self.changed.notify_all();
    }
}

enum Inner<B> {
    Inline(Box<dyn FnMut() -> Option<Result<Batch<B>>> + Send>),
    Threads { queue: Arc<Queue<B>>, workers: Vec<JoinHandle<()>> },
}

/// The batches of one epoch. After an error there is no further batch.
pub struct Epoch<B: Send> {
    inner: Inner<B>,
    waited: Duration,
    failed: bool,
}

impl<B: Send> Epoch<B> {
    /// How long the caller has waited for batches so far (`data_time`).
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl<B: Send> Iterator for Epoch<B> {
    type Item = Result<Batch<B>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let start = Instant::now();
        let batch = match &mut self.inner {
            Inner::Inline(load) => load(),
            Inner::Threads { queue, .. } => queue.next(),
        };
        self.waited += start.elapsed();
        if let Some(Err(_)) = batch {
            self.failed = true;
            if let Inner::Threads { queue, .. } = &self.inner {
                queue.stop();
            }
        }
        batch
    }
}

impl<B: Send> Drop for Epoch<B> {
    /// Stops the threads: each ends after the sample it is reading.
    fn drop(&mut self) {
        if let Inner::Threads { queue, workers } = &mut self.inner {
            queue.stop();
            for worker in workers.drain(..) {
                // A thread that panicked outside a sample has nothing more to say.
                let _ = worker.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::{GroupSampler, RandomSampler, Sampler, SequentialSampler};
    use super::*;

    /// Gives (index, a random number); some indices are broken; counts its reads.
    #[derive(Default)]
    struct Numbers {
        len: usize,
        broken: Vec<usize>,
        panics: Option<usize>,
        sleep: Duration,
        reads: AtomicUsize,
    }

    impl Dataset for Numbers {
        type Item = (usize, u64);
        fn len(&self) -> usize {
            self.len
        }
        fn get(&self, index: usize, rng: &mut Rng) -> Result<Self::Item> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            // Later samples are faster, so that threads finish out of order.
            std::thread::sleep(self.sleep.mul_f64(1.0 - index as f64 / self.len as f64));
            assert!(self.panics != Some(index), "no such pixel");
            if self.broken.contains(&index) {
                return Err(Error::data(self.name(index), "truncated"));
            }
            Ok((index, rng.bits()))
        }
        fn flag(&self, index: usize) -> u8 {
            (index % 2) as u8
        }
        fn name(&self, index: usize) -> String {
            format!("{index}.jpg")
        }
    }

    fn loader(d: Numbers, workers: usize, on_error: OnError) -> DataLoader<Numbers, Vec<(usize, u64)>> {
        let sampler = RandomSampler { len: d.len, seed: 9 }.batched(3, false);
        let options = LoaderOptions { workers, seed: 9, on_error, ..Default::default() };
        DataLoader::new(Arc::new(d), sampler, Ok, options)
    }

    fn read(workers: usize, epoch: u64, start: usize) -> Vec<Vec<(usize, u64)>> {
        let d = Numbers { len: 20, broken: vec![4, 7], sleep: Duration::from_millis(2), ..Default::default() };
        loader(d, workers, OnError::Replace(5)).epoch(epoch, start).map(|b| b.unwrap().data).collect()
    }

    #[test]
    fn threads_change_neither_order_nor_values() {
        let one = read(0, 3, 0);
        assert_eq!(one.len(), 7);
        assert_eq!(one, read(1, 3, 0));
        assert_eq!(one, read(5, 3, 0));
        assert_ne!(one, read(0, 4, 0));
        assert_eq!(one[4..], read(3, 3, 4));
        assert!(read(2, 3, 100).is_empty());
    }

    #[test]
    fn a_broken_sample_is_replaced_by_one_of_its_group_or_is_fatal() {
        let d = || Numbers { len: 20, broken: vec![4], ..Default::default() };
        let sampler = || GroupSampler { flags: d().flags(), samples_per_gpu: 2, seed: 1 }.batched(2, false);
        let options = LoaderOptions { on_error: OnError::Replace(3), ..Default::default() };
        let l = DataLoader::new(Arc::new(d()), sampler(), Ok, options);
        let batches: Vec<Batch<Vec<(usize, u64)>>> = l.epoch(0, 0).map(|b| b.unwrap()).collect();
        assert_eq!(batches.len(), 10);
        for b in &batches {
            assert!(b.indices.iter().all(|i| *i != 4 && i % 2 == b.indices[0] % 2));
            assert_eq!(b.names[0], format!("{}.jpg", b.data[0].0));
        }
        for workers in [0, 2] {
            let mut epoch = loader(d(), workers, OnError::Fatal).epoch(0, 0);
            let error = epoch.by_ref().find_map(Result::err).unwrap();
            assert_eq!(error.to_string(), "4.jpg: truncated");
            assert!(epoch.next().is_none());
        }
    }

    #[test]
    fn a_data_set_of_broken_samples_ends_with_the_error() {
        let d = Numbers { len: 6, broken: (0..6).collect(), ..Default::default() };
        let first = loader(d, 2, OnError::Replace(4)).epoch(0, 0).next().unwrap();
        assert!(first.unwrap_err().to_string().ends_with("truncated"));
    }

    #[test]
    fn a_panic_in_a_sample_is_an_error_that_names_it() {
        let d = Numbers { len: 3, panics: Some(1), ..Default::default() };
        let e = loader(d, 2, OnError::Fatal).epoch(0, 0).next().unwrap().unwrap_err().to_string();
        assert!(e.contains("1.jpg") && e.contains("no such pixel"), "{e}");
    }

    #[test]
    fn reading_ahead_is_bounded_and_ends_with_the_iterator() {
        let d = Numbers { len: 3000, sleep: Duration::from_millis(1), ..Default::default() };
        let options = LoaderOptions { workers: 3, prefetch: 2, ..Default::default() };
        let l = DataLoader::new(Arc::new(d), SequentialSampler { len: 3000 }.batched(2, false), Ok, options);
        let mut epoch = l.epoch(0, 0);
        let _: Batch<Vec<(usize, u64)>> = epoch.next().unwrap().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        // One batch taken, six more ahead, two samples each.
        let reads = l.dataset().reads.load(Ordering::Relaxed);
        assert_eq!(reads, 14);
        assert!(epoch.waited() > Duration::ZERO);
        let start = Instant::now();
        drop(epoch);
        assert!(start.elapsed() < Duration::from_millis(500));
        let after = l.dataset().reads.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(after, l.dataset().reads.load(Ordering::Relaxed));
    }

    #[test]
    fn ranks_draw_from_their_own_streams() {
        let draw = |rank| {
            let options = LoaderOptions { workers: 0, rank, ..Default::default() };
            let d = Numbers { len: 4, ..Default::default() };
            let l = DataLoader::new(Arc::new(d), SequentialSampler { len: 4 }.batched(4, false), Ok, options);
            l.epoch(0, 0).next().unwrap().unwrap().data
        };
        let (a, b): (Vec<(usize, u64)>, Vec<(usize, u64)>) = (draw(0), draw(1));
        assert!(a.iter().zip(&b).all(|(x, y)| x.0 == y.0 && x.1 != y.1));
    }
}
