//! What reading a node's past asks of a bucket. A test puts a bucket under it that changes between
//! the requests.

use crate::error::Error;
use crate::store::{Listed, Object, Store};

/// The requests, each as [`Store`] has it.
pub(crate) trait Objects: Clone + Send + Sync + 'static {
    /// Every object whose key begins with `prefix`; with `after`, only those after that key.
    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Listed>, Error>> + Send;

    /// The names directly under `prefix` that have further keys below them.
    fn folders(&self, prefix: &str) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// Reads an object that may not exist.
    fn find(&self, key: &str) -> impl Future<Output = Result<Option<Object>, Error>> + Send;
}

impl Objects for Store {
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>, Error> {
        match after {
            Some(after) => self.list_after(prefix, after).await,
            None => Store::list(self, prefix).await,
        }
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        Store::folders(self, prefix).await
    }

    async fn find(&self, key: &str) -> Result<Option<Object>, Error> {
        Store::find(self, key).await
    }
}
