//! What waits in a store, as lines of JSON, and back: from one store into another, of
//! whichever engine.

mod end;
mod export;
mod import;
mod line;
#[cfg(test)]
mod tests;

pub use export::{ExportError, Exported, LeftBehind, export};
pub use import::{Check, ImportError, Imported, import};
