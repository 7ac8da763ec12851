//! The JSON schemas of the types whose text is their own, for the OpenAPI document.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::json::Json;
use crate::name::{NodeId, OpName, RunId};
use crate::position::{Epoch, LogSum, OpId, Seq};
use crate::promise::PromiseId;
use crate::retention::KeepRule;
use crate::time::Timestamp;

/// Gives types a schema that stands where they are used, and has no name of its own.
macro_rules! inline_schema {
    ($($name:ty: $schema:tt)*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

inline_schema! {
    RunId: { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": 200 }
    PromiseId: { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*:[0-9]+$" }
    NodeId: { "type": "string" }
    OpName: { "type": "string", "minLength": 1, "maxLength": 200 }
    Timestamp: { "type": "string", "format": "date-time" }
    Seq: { "type": "integer", "minimum": 0 }
    OpId: { "type": "integer", "minimum": 1 }
    Epoch: { "type": "integer", "minimum": 1 }
    LogSum: { "type": "string", "pattern": "^-?[0-9]+$" }
    Json: {}
    KeepRule: { "type": "string", "examples": ["30d", "1000", "30d,1000", "audit=yes:always"] }
}
