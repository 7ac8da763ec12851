//! The macro that makes an [`Event`](super::Event) of a declaration.
//!
//! From one entry for each kind come the variant, the kind with its text and class, the columns,
//! the payload as it is written and read, and how an act is compared with the log. The forms:
//!
//! ```text
//! Variant = "text", Class, [op name] { field: Type, given: Type [given] }
//! Variant(Payload) = "text", Class               the payload is all of `data`
//! Variant(Payload) = "text", Class, named field  and this field of it is the `name` column
//! Variant = "text", Class, [op name] { field: Type } by module      written and read by hand
//! ```
//!
//! `[op name]` are the columns that the kind has beside `data`; without fields `data` is null. A
//! `given` field is decided when the act is recorded: a replay takes it from the log and does not
//! compare it. All others are compared, by [`Compared`].

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::json::{Floats, Json};
use crate::name::RunId;
use crate::position::Epoch;
use crate::promise::{PromiseAnswer, TokenGrant};
use crate::time::Timestamp;
use crate::{BlockReason, Event, OpId, ProcessEnd, Requester};

/// How a part of an act is compared with what the log has.
pub(super) trait Compared {
    fn is_same(&self, logged: &Self, floats: Floats) -> bool;
}

impl Compared for Json {
    fn is_same(&self, logged: &Json, floats: Floats) -> bool {
        logged.same_with(self, floats)
    }
}

impl<T: Compared> Compared for Option<T> {
    fn is_same(&self, logged: &Option<T>, floats: Floats) -> bool {
        match (self, logged) {
            (Some(this), Some(logged)) => this.is_same(logged, floats),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

macro_rules! compared_by_eq {
    ($($type:ty),*) => {
        $(impl Compared for $type {
            fn is_same(&self, logged: &$type, _: Floats) -> bool {
                self == logged
            }
        })*
    };
}

compared_by_eq!(
    bool,
    u32,
    RunId,
    Epoch,
    Timestamp,
    Failure,
    ProcessEnd,
    BlockReason,
    Requester,
    PromiseAnswer,
    TokenGrant,
    BTreeMap<OpId, u32>,
    Box<Event>
);

/// For `skip_serializing_if`, which passes a reference to the field's reference.
pub(super) fn is_default<T: Default + PartialEq>(value: &&T) -> bool {
    **value == T::default()
}

macro_rules! events {
    (
        $($(#[$whole_doc:meta])*
        $whole:ident($whole_type:ty) = $whole_text:literal, $whole_class:ident
            $(, named $named:ident)?;)*
        --
        $($(#[$doc:meta])*
        $variant:ident = $text:literal, $class:ident, [$($key:ident)*]
            $({ $($(#[$serde:meta])* $field:ident: $type:ty $([$given:ident])?),* $(,)? })?
            $(by $module:ident)?;)*
    ) => {
        /// One event of the log.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the fields are named in each variant's own line")]
        pub enum Event {
            $($(#[$whole_doc])* $whole($whole_type),)*
            $($(#[$doc])* $variant { $($key: key_type!($key),)* $($($field: $type,)*)? },)*
        }

        /// The kind of an event, whose text is the `kind` column.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $(#[doc = concat!("`", $whole_text, "`.")] $whole,)*
            $(#[doc = concat!("`", $text, "`.")] $variant,)*
        }

        impl EventKind {
            /// Every kind.
            pub const ALL: &[EventKind] = &[$(EventKind::$whole,)* $(EventKind::$variant,)*];

            /// The text of the `kind` column.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(EventKind::$whole => $whole_text,)*
                    $(EventKind::$variant => $text,)*
                }
            }

            /// What replay does with events of this kind.
            pub fn class(self) -> EventClass {
                match self {
                    $(EventKind::$whole => EventClass::$whole_class,)*
                    $(EventKind::$variant => EventClass::$class,)*
                }
            }

            /// The kind with this text, if this version knows it.
            pub fn from_text(text: &str) -> Option<EventKind> {
                match text {
                    $($whole_text => Some(EventKind::$whole),)*
                    $($text => Some(EventKind::$variant),)*
                    _ => None,
                }
            }
        }

        impl Event {
            /// The event's kind.
            pub fn kind(&self) -> EventKind {
                match self {
                    $(Event::$whole(_) => EventKind::$whole,)*
                    $(Event::$variant { .. } => EventKind::$variant,)*
                }
            }

            /// The `op` and `name` columns.
            fn keys(&self) -> (Option<OpId>, Option<&OpName>) {
                match self {
                    $(Event::$whole(_payload) => (None, name_of!(_payload $($named)?)),)*
                    $(Event::$variant { $($key,)* .. } => keys!($($key)*),)*
                }
            }

            fn data(&self) -> Option<String> {
                match self {
                    $(Event::$whole(payload) => Some(text(payload)),)*
                    $(Event::$variant { $($($field,)*)? .. } => {
                        written!([$($module)?] $($($(#[$serde])* $field: $type),*)?)
                    })*
                }
            }

            /// Whether this act is the one that the log has: kind, operation, name, and all of its
            /// payload that the log does not decide.
            pub fn is_same_act(&self, logged: &Event, floats: Floats) -> bool {
                match self {
                    $(Event::$whole(_) => self == logged,)*
                    $(Event::$variant { $($key,)* $($($field,)*)? } => {
                        matches!(logged, Event::$variant { .. })
                            $(&& matches!(logged, Event::$variant { $key: theirs, .. }
                                if $key == theirs))*
                            $($(&& matches!(logged, Event::$variant { $field: theirs, .. }
                                if is_same!($field, theirs, floats $(, $given)?)))*)?
                    })*
                }
            }
        }

        #[cfg(test)]
        impl EventKind {
            /// What the declaration says of the kind, for the test that holds the document to it.
            fn declared(self) -> tests::documented::Declared {
                use tests::documented::{Declared, whole_fields};
                match self {
                    $(EventKind::$whole => Declared {
                        columns: vec![$(named!($named))?],
                        fields: whole_fields::<$whole_type>(),
                    },)*
                    $(EventKind::$variant => Declared {
                        columns: vec![$(stringify!($key)),*],
                        fields: fields!([$($module)?] $($($(#[$serde])* $field),*)?),
                    },)*
                }
            }
        }

        impl Reader<'_> {
            fn event(&self) -> Result<Event, EventError> {
                Ok(match self.kind {
                    $(EventKind::$whole => Event::$whole(self.data()?),)*
                    $(EventKind::$variant => {
                        read!(self, $variant, [$($module)?] [$($key)*]
                            $($($(#[$serde])* $field: $type),*)?)
                    })*
                })
            }
        }
    };
}

macro_rules! key_type {
    (op) => {
        OpId
    };
    (name) => {
        OpName
    };
}

macro_rules! keys {
    () => {
        (None, None)
    };
    ($op:ident) => {
        (Some(*$op), None)
    };
    ($op:ident $name:ident) => {
        (Some(*$op), Some($name))
    };
}

macro_rules! name_of {
    ($payload:ident) => {
        None
    };
    ($payload:ident $field:ident) => {
        Some(&$payload.$field)
    };
}

macro_rules! is_same {
    ($ours:ident, $theirs:ident, $floats:ident) => {
        $ours.is_same($theirs, $floats)
    };
    ($ours:ident, $theirs:ident, $floats:ident, given) => {{
        let _ = ($ours, $theirs, $floats);
        true
    }};
}

/// The `data` column of one kind.
macro_rules! written {
    ([]) => { None };
    ([$module:ident] $($field:ident: $type:ty),*) => { Some($module::data($($field),*)) };
    ([] $($(#[$serde:meta])* $field:ident: $type:ty),*) => {{
        #[derive(serde::Serialize)]
        struct Data<'a> {
            $($(#[$serde])* $field: &'a $type,)*
        }
        Some(text(&Data { $($field,)* }))
    }};
}

/// The fields of one kind; one that is left out where it says nothing ends in `?`.
#[cfg(test)]
macro_rules! fields {
    ([$module:ident] $($field:ident),*) => {
        $module::FIELDS.iter().map(|&field| field.to_owned()).collect()
    };
    ([] $($(#[$serde:meta])* $field:ident),*) => {
        vec![$(concat!(stringify!($field) $(, optional!($serde))*).to_owned()),*]
    };
}

/// The column that a field of a whole payload fills.
#[cfg(test)]
macro_rules! named {
    ($field:ident) => {
        "name"
    };
}

/// The mark of a field that has a serde attribute; each of those says when the field is left out.
#[cfg(test)]
macro_rules! optional {
    ($serde:meta) => {
        "?"
    };
}

/// Reads one kind from its columns.
macro_rules! read {
    ($reader:ident, $variant:ident, [] [$($key:ident)*]) => {
        Event::$variant { $($key: $reader.$key()?,)* }
    };
    ($reader:ident, $variant:ident, [$module:ident] [$($key:ident)*]
        $($field:ident: $type:ty),*) => {{
        let ($($field,)*) = $module::read($reader)?;
        Event::$variant { $($key: $reader.$key()?,)* $($field,)* }
    }};
    ($reader:ident, $variant:ident, [] [$($key:ident)*]
        $($(#[$serde:meta])* $field:ident: $type:ty),*) => {{
        #[derive(serde::Deserialize)]
        struct Data {
            $($(#[$serde])* $field: $type,)*
        }
        let Data { $($field,)* } = $reader.data()?;
        Event::$variant { $($key: $reader.$key()?,)* $($field,)* }
    }};
}
