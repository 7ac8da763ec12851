//! Pages that were read from open moments. A moment does not change, so what was read of it once is
//! kept, and many who look at the same time share one reading.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tidemill_model::{Error, Timestamp};
use tidemill_page::{Page, View};

use super::OpenMoment;

/// What all kept pages may weigh, as bytes of JSON; in memory they take about twice as much.
const BYTES_MAX: u64 = 16 << 20;

/// How many pages that is, at some 50 KiB each: the cache makes room for so many.
const PAGES: usize = 320;

/// The kept pages.
#[derive(Debug)]
pub(crate) struct Pages(Cache<PageKey, KeptPage, PageWeight>);

/// What a page depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PageKey {
    /// The opening of the moment.
    moment: u64,
    address: String,
    upto: Timestamp,
}

#[derive(Debug, Clone)]
struct KeptPage {
    page: Arc<Page>,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct PageWeight;

impl Weighter<PageKey, KeptPage> for PageWeight {
    fn weight(&self, key: &PageKey, kept: &KeptPage) -> u64 {
        let address = u64::try_from(key.address.len()).unwrap_or(u64::MAX);
        kept.bytes.saturating_add(address)
    }
}

impl Default for Pages {
    fn default() -> Pages {
        Pages(Cache::with_weighter(PAGES, BYTES_MAX, PageWeight))
    }
}

impl Pages {
    /// The page of a view, read from the moment unless it is kept. `address` is the view as it was
    /// asked for, `upto` the time up to which open operations are drawn.
    ///
    /// # Errors
    /// As [`View::read`]. An error is not kept.
    pub(crate) async fn read(
        &self,
        moment: &Arc<OpenMoment>,
        (view, address): (View, &str),
        upto: Timestamp,
    ) -> Result<Arc<Page>, Error> {
        let key = PageKey { moment: moment.id, address: address.to_owned(), upto };
        let read = async {
            let read = moment.read(move |snapshot| {
                let page = view.read(snapshot.connection(), upto)?;
                let bytes = u64::try_from(page.json()?.len()).unwrap_or(u64::MAX);
                Ok(KeptPage { page: Arc::new(page), bytes })
            });
            read.await
        };
        Ok(self.0.get_or_insert_async(&key, read).await?.page)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;
    use tidemill_eventlog::{Appender, Checkpoints, create, host, open_writer, projection};
    use tidemill_model::{Durability, ErrorKind, Event, Json, OpName, RunCreated, RunId, Seed};
    use tidemill_observer::{Access, Cache as Snapshots, Source};

    use super::*;

    /// Adds a run to a file.
    fn add(file: &Connection, run: &str) {
        let mut appender = Appender::load(file).unwrap();
        let created = Event::RunCreated(Box::new(RunCreated {
            workflow: OpName::new("w").unwrap(),
            input: Json::null(),
            labels: [].into(),
            seed: Seed::from_random([1; 16]),
            parent: None,
            spawned_by: None,
            outlives_parent: false,
            app_version: "1".to_owned(),
            durability: Durability::Local,
            by: None,
            forked: None,
            within_ms: None,
        }));
        let run = RunId::new(run).unwrap();
        file.execute_batch("BEGIN IMMEDIATE").unwrap();
        let put = appender.append(file, host::wall_now(), Some(&run), &created).unwrap();
        projection::project(file, put, Some(&run), &created).unwrap();
        file.execute_batch("COMMIT").unwrap();
        appender.committed();
    }

    async fn open(path: &Path) -> Arc<OpenMoment> {
        let access = Access {
            s3: tidemill_bucket::Settings::default(),
            cache: Snapshots::new(path.with_file_name("cache")),
            litestream: None,
            token: None,
            now: host::wall_now(),
        };
        let snapshot = access.open(&Source::File(path.to_owned())).await.unwrap();
        Arc::new(OpenMoment::new(access, snapshot, None))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000).unwrap()
    }

    /// A file that changes shows whether it is read again.
    #[tokio::test]
    async fn a_page_is_read_once_for_each_opening_and_an_error_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        create(&path).unwrap();
        // As long as it is open, the file is read as one that changes.
        let writer = open_writer(&path, Checkpoints::Own).unwrap();
        add(&writer, "run-a");
        let (pages, moment) = (Pages::default(), open(&path).await);
        let read = async |moment: &Arc<OpenMoment>, address: &str, upto: i64| {
            let view = View::of_path(address, "").unwrap().unwrap();
            let page = pages.read(moment, (view, address), at(upto)).await;
            page.map(|page| page.json().unwrap())
        };
        let before = read(&moment, "/runs", 1).await.unwrap();
        assert!(before.contains("run-a") && !before.contains("run-b"), "{before}");
        let missing = read(&moment, "/runs/run-b", 1).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);

        add(&writer, "run-b");
        assert_eq!(read(&moment, "/runs", 1).await.unwrap(), before, "it was kept");
        read(&moment, "/runs/run-b", 1).await.expect("an error was not");
        assert!(read(&moment, "/runs", 2).await.unwrap().contains("run-b"), "up to another time");
        let again = open(&path).await;
        assert!(read(&again, "/runs", 1).await.unwrap().contains("run-b"), "another opening");
    }
}
