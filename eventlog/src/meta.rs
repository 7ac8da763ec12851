//! `tidemill_meta`: what the file says about itself.

use rusqlite::{Connection, OptionalExtension as _};
use tidemill_model::{Epoch, InstanceId, NodeId};

use crate::error::{Error, Result, sqlite};
use crate::own_copy::OwnCopy;

/// What the file says about itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Meta {
    /// The version of the schema.
    pub schema: i32,
    /// How rows are hashed.
    pub hash: String,
    /// The version of Tidemill that made the schema.
    pub tidemill: String,
    /// The author's program that wrote last.
    pub app: Option<String>,
    /// The node that the file belongs to, once a sidecar has had it.
    pub node: Option<NodeId>,
    /// The epoch that the file belongs to.
    pub epoch: Option<Epoch>,
    /// The disk that the epoch belongs to.
    pub instance: Option<InstanceId>,
    /// What it is a copy of, if `tidemill restore --as` made it a node of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<OwnCopy>,
    /// Whether the file was ever shipped or restored: then it opens for writing only under a
    /// sidecar of the same node and epoch.
    pub shipped: bool,
}

fn get(connection: &Connection, key: &str) -> Result<Option<String>> {
    let failed = |e| sqlite(format_args!("read `{key}` from tidemill_meta"), e);
    let mut statement = connection
        .prepare_cached("SELECT value FROM tidemill_meta WHERE key = ?1")
        .map_err(failed)?;
    statement.query_row([key], |row| row.get(0)).optional().map_err(failed)
}

pub(crate) fn put(connection: &Connection, key: &str, value: &str) -> Result<()> {
    let failed = |e| sqlite(format_args!("write `{key}` to tidemill_meta"), e);
    let sql = "INSERT INTO tidemill_meta (key, value) VALUES (?1, ?2) \
               ON CONFLICT (key) DO UPDATE SET value = ?2 WHERE value <> ?2";
    connection.prepare_cached(sql).map_err(failed)?.execute([key, value]).map_err(failed)?;
    Ok(())
}

impl Meta {
    /// Reads it.
    ///
    /// # Errors
    /// `Corrupt` if a value is not what its key says; otherwise what SQLite says.
    pub fn read(connection: &Connection) -> Result<Meta> {
        fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
            connection: &Connection,
            key: &str,
        ) -> Result<Option<T>> {
            let Some(text) = get(connection, key)? else { return Ok(None) };
            let corrupt = |e| Error::corrupt(format!("tidemill_meta has a bad `{key}`: {e}"));
            text.parse().map(Some).map_err(corrupt)
        }
        let missing = |key| move || Error::corrupt(format!("tidemill_meta has no `{key}`"));
        let epoch = parsed::<u64>(connection, "epoch")?.map(Epoch::new).transpose();
        let copy = get(connection, "copy")?.map(|text| serde_json::from_str(&text));
        let bad_copy = |e| Error::corrupt(format!("tidemill_meta has a bad `copy`: {e}"));
        Ok(Meta {
            schema: parsed(connection, "schema")?.ok_or_else(missing("schema"))?,
            hash: get(connection, "hash")?.ok_or_else(missing("hash"))?,
            tidemill: get(connection, "tidemill")?.ok_or_else(missing("tidemill"))?,
            app: get(connection, "app")?,
            node: parsed(connection, "node")?,
            epoch: epoch.map_err(|e| Error::corrupt(format!("tidemill_meta has an {e}")))?,
            instance: parsed(connection, "instance")?,
            copy: copy.transpose().map_err(bad_copy)?,
            shipped: get(connection, "shipped")?.as_deref() == Some("1"),
        })
    }

    /// Writes that the file belongs to this node and epoch and is shipped from now on, in one
    /// transaction. Only a sidecar does this, holding both locks, before Litestream starts.
    ///
    /// # Errors
    /// What SQLite says; nothing is changed then.
    pub fn mark_shipped(
        connection: &Connection,
        node: &NodeId,
        epoch: Epoch,
        instance: &InstanceId,
    ) -> Result<()> {
        let failed = |e| sqlite("mark the file as shipped", e);
        let transaction = connection.unchecked_transaction().map_err(failed)?;
        put(&transaction, "node", node.as_str())?;
        put(&transaction, "epoch", &epoch.to_string())?;
        put(&transaction, "instance", instance.as_str())?;
        put(&transaction, "shipped", "1")?;
        transaction.commit().map_err(failed)
    }

    /// Writes which program of the author writes from now on.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn set_app(connection: &Connection, app: &str) -> Result<()> {
        put(connection, "app", app)
    }
}
