//! An artifact in memory, for tract.
//!
//! tract reads external data through a resolver, but only of locations that exist on the disk. So every tensor is sent to the
//! one location that always does, the root folder itself, with offsets into all data files in a row.

use edgewise_onnx::{Assembly, DATA_FILE, SHARED_DATA_FILE};
use std::{io::Cursor, path::Path, sync::Arc};
use tract_onnx::{
    data_resolver::ModelDataResolver,
    pb::{ModelProto, StringStringEntryProto, tensor_proto::DataLocation},
    prelude::*,
    tract_hir::internal::{TractErrorContext as _, bail, ensure},
};

/// The folder that locations are relative to, and the location of all data.
const FOLDER: &str = "/";
const LOCATION: &str = ".";

/// Parses the graph. tract has copies of all tensors then; the assembly is gone when this returns.
pub(super) fn parse(assembly: Box<Assembly>) -> TractResult<InferenceModel> {
    let mut framework = tract_onnx::onnx();
    let mut proto = framework.proto_model_for_read(&mut Cursor::new(&assembly.model))?;
    let files = Files { assembly: *assembly };
    files.redirect(&mut proto)?;
    framework.provider = Arc::new(files);
    let parsed = framework.parse(&proto, Some(FOLDER))?;
    ensure!(parsed.unresolved_inputs.is_empty(), "inputs of the graph that are nowhere: {:?}", parsed.unresolved_inputs);
    Ok(parsed.model)
}

/// The data files, one after the other.
struct Files {
    assembly: Assembly,
}

impl Files {
    fn parts(&self) -> [(&'static str, &[u8]); 2] {
        [(DATA_FILE, &self.assembly.data), (SHARED_DATA_FILE, &self.assembly.shared)]
    }

    /// Sends every external tensor to [`LOCATION`].
    fn redirect(&self, proto: &mut ModelProto) -> TractResult<()> {
        let [(first, data), (second, _)] = self.parts();
        let initializers = proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        for tensor in initializers.filter(|tensor| tensor.data_location == Some(DataLocation::External as i32)) {
            let field = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
            let offset = field("offset").map_or(Ok(0), str::parse::<usize>)?;
            let offset = match field("location") {
                Some(name) if name == first => Some(offset),
                Some(name) if name == second => offset.checked_add(data.len()),
                other => bail!("tensor `{}` lies in {other:?}, which is no file of the artifact", tensor.name),
            };
            let offset = offset.context("an offset overflows")?;
            let Some(length) = field("length").map(str::to_owned) else { bail!("tensor `{}` has no length", tensor.name) };
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
            tensor.external_data =
                vec![entry("location", LOCATION.to_owned()), entry("offset", offset.to_string()), entry("length", length)];
        }
        Ok(())
    }
}

impl ModelDataResolver for Files {
    fn read_bytes_from_path(&self, buffer: &mut Vec<u8>, _: &Path, offset: usize, length: Option<usize>) -> TractResult<()> {
        let [(_, data), (_, shared)] = self.parts();
        let (part, start) = match offset.checked_sub(data.len()) {
            None => (data, offset),
            Some(start) => (shared, start),
        };
        let bytes = length.and_then(|length| part.get(start..start.checked_add(length)?));
        buffer.extend_from_slice(bytes.context("a tensor reaches beyond its file")?);
        Ok(())
    }
}
