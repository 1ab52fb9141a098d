//! Blobs by the hash of their content, in one folder that can be thrown away at any time.
//!
//! Contract: what [`Store::locate`] returns was checked against its hash when it came in. Several agents may share a folder:
//! files appear by rename, an upload holds a lock on its part and a user one on its blob, and leftovers are cleared only by an
//! agent that is alone. A budget bounds the bytes of blobs and parts; [`room`] says what goes.
//!
//! `blobs/SHA256` whole blobs · `parts/SHA256.part` broken-off uploads · `taken/SHA256` what a blob that is a link to
//! somebody else's file must still look like · `artifacts/` folders of one measurement each.

mod artifact;
mod folder;
mod ledger;
mod network;
mod room;
mod take;
mod upload;

pub(crate) use artifact::{Artifact, MODEL, check_names};
pub(crate) use folder::{Folder, Store};
pub(crate) use network::SuperNetwork;
pub(crate) use room::Held;
pub(crate) use upload::Upload;
