//! ONNX Runtime: a shared library on the device, loaded at run time.

use super::{
    model::{CausalModel, Library, Model, rejected},
    providers,
    signature::{Input, Output, Signature},
};
use crate::error::{first_lines, wire};
use edgewise_onnx::{Assembly, DATA_FILE, SHARED_DATA_FILE};
use edgewise_protocol::{ErrorCode, Provider, ProviderShare, Runtime, WireError};
use ort::{
    AsPointer,
    environment::Environment,
    memory::Allocator,
    session::{Session, SessionInputValue, builder::SessionBuilder},
    value::{DynValue, Tensor, TensorElementType, TensorRef, ValueType},
};
use std::{
    ffi::{CStr, CString, c_char},
    sync::{Mutex, PoisonError},
};

/// What the system's loader is asked for by default.
const SYSTEM: &str = "libonnxruntime.so";

/// The library that this process has loaded, by its path.
static LOADED: Mutex<Option<(String, Environment)>> = Mutex::new(None);

/// A loaded library.
pub(super) struct OrtLibrary {
    environment: Environment,
    version: String,
}

impl OrtLibrary {
    /// Loads the library and checks that it speaks the API that this build needs.
    pub(super) fn open(library: &Library) -> Result<Self, WireError> {
        let path = match library {
            Library::File(path) => path.clone(),
            Library::Default => {
                std::env::var("ORT_DYLIB_PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| SYSTEM.to_owned())
            }
        };
        let unavailable = |why: String| wire(ErrorCode::RuntimeUnavailable, format!("ONNX Runtime `{path}`: {why}"));
        let version = library_version(&path).map_err(|why| unavailable(first_lines(&why, 3)))?;
        // A process gets one environment of one library, ever.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = match &*loaded {
            Some((other, environment)) if *other == path => environment.clone(),
            Some((other, _)) => return Err(unavailable(format!("`{other}` is loaded already"))),
            None => ort::init_from(&path)
                .map_err(|e| unavailable(first_lines(&e.to_string(), 3)))?
                .build()
                .map_err(|e| unavailable(first_lines(&e.to_string(), 3)))?,
        };
        *loaded = Some((path.clone(), environment.clone()));
        Ok(Self { environment, version })
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }
}

/// Asks a library for its version before anything relies on it being ONNX Runtime.
fn library_version(path: &str) -> Result<String, String> {
    let name = CString::new(path).map_err(|_| "the path contains a nul byte".to_owned())?;
    // SAFETY: the name is nul-terminated. Loading runs the library's initialisers, which is what was asked for; this process
    // is a worker that may die of them.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(loader_message());
    }
    // SAFETY: the handle is valid, and the name is nul-terminated. The handle is never closed: the library stays.
    let symbol = unsafe { libc::dlsym(handle, c"OrtGetApiBase".as_ptr()) };
    if symbol.is_null() {
        return Err("it is no ONNX Runtime: it has no `OrtGetApiBase`".to_owned());
    }
    // SAFETY: this is the signature that the library's public header gives the symbol since its first version.
    let get_base: unsafe extern "C" fn() -> *const ort::sys::OrtApiBase = unsafe { std::mem::transmute(symbol) };
    // SAFETY: takes nothing and returns a pointer to a static table, whose second entry returns a static string.
    unsafe {
        let base = get_base().as_ref().ok_or("it gives no API")?;
        Ok(CStr::from_ptr((base.GetVersionString)()).to_string_lossy().into_owned())
    }
}

fn loader_message() -> String {
    // SAFETY: called right after a failed call on the same thread; the string is copied at once.
    let message = unsafe {
        let text = libc::dlerror();
        if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy().into_owned()) }
    };
    message.unwrap_or_else(|| "cannot be loaded".to_owned())
}

/// A model in ONNX Runtime.
pub(super) struct OrtModel {
    session: Session,
    version: String,
    providers: Vec<ProviderShare>,
    signature: Signature,
    /// Heads and size of each part of the cache.
    shapes: Vec<(i64, i64)>,
    past: Vec<Option<DynValue>>,
    length: usize,
    logits: Option<DynValue>,
    ids: Vec<i64>,
    ones: Vec<i64>,
    positions: Vec<i64>,
}

impl OrtModel {
    pub(super) fn load(library: &OrtLibrary, model: Model, threads: u16, asked: &[Provider]) -> Result<Self, WireError> {
        Self::try_load(library, model, threads, asked).map_err(|why| rejected(Runtime::Ort, "prepare the model", &why))
    }

    fn try_load(library: &OrtLibrary, model: Model, threads: u16, asked: &[Provider]) -> Result<Self, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut builder = Session::builder(&library.environment)
            .map_err(|e| text(&e))?
            .with_intra_threads(usize::from(threads.max(1)))
            .map_err(|e| text(&e))?
            .with_inter_threads(1)
            .map_err(|e| text(&e))?;
        builder = providers::recorded(builder)?;
        let problems = providers::ask(&mut builder, asked);
        let session = match model {
            Model::File(path) => builder.commit_from_file(path),
            Model::Memory(assembly) => commit_from_memory(&mut builder, &assembly),
        };
        let session = session.map_err(|e| text(&e))?;
        let shares = providers::shares(&session, asked, problems).map_err(|e| text(&e))?;
        let signature = Signature::new(
            session.inputs().iter().map(ort::value::Outlet::name),
            session.outputs().iter().map(ort::value::Outlet::name),
        )?;
        let shapes = session
            .inputs()
            .iter()
            .zip(&signature.inputs)
            .filter(|(_, role)| matches!(role, Input::Past(_)))
            .map(|(input, _)| cache_shape(input.dtype()).map_err(|why| format!("input `{}`: {why}", input.name())))
            .collect::<Result<Vec<_>, _>>()?;
        let mut model = Self {
            session,
            version: library.version.clone(),
            providers: shares,
            past: Vec::with_capacity(signature.parts),
            signature,
            shapes,
            length: 0,
            logits: None,
            ids: Vec::new(),
            ones: Vec::new(),
            positions: Vec::new(),
        };
        model.reset();
        Ok(model)
    }

    fn try_feed(&mut self, tokens: &[u32]) -> ort::Result<()> {
        let (before, after) = (self.length, self.length + tokens.len());
        self.logits = None;
        self.ids.clear();
        self.ids.extend(tokens.iter().map(|&token| i64::from(token)));
        if self.ones.len() < after {
            self.ones.resize(after, 1);
            self.positions.extend(self.positions.len() as i64..after as i64);
        }
        let mut inputs: Vec<SessionInputValue<'_>> = Vec::with_capacity(self.signature.inputs.len());
        for input in &self.signature.inputs {
            inputs.push(match *input {
                Input::Ids => TensorRef::from_array_view(([1, tokens.len()], &self.ids[..]))?.into(),
                Input::Mask => TensorRef::from_array_view(([1, after], &self.ones[..after]))?.into(),
                Input::Positions => TensorRef::from_array_view(([1, tokens.len()], &self.positions[before..after]))?.into(),
                Input::LogitsToKeep => TensorRef::from_array_view(((), &self.ones[..1]))?.into(),
                Input::Past(part) => {
                    if let Some(value) = self.past[part].take() {
                        value.into()
                    } else {
                        let (heads, size) = self.shapes[part];
                        Tensor::<f32>::new(&Allocator::default(), [1, heads, 0, size])?.into()
                    }
                }
            });
        }
        let outputs = self.session.run(&inputs[..])?;
        for (output, (_, value)) in self.signature.outputs.iter().zip(outputs) {
            match *output {
                Output::Logits => self.logits = Some(value),
                Output::Present(part) => self.past[part] = Some(value),
            }
        }
        self.length = after;
        Ok(())
    }

    fn last_row(&self) -> Result<&[f32], String> {
        let logits = self.logits.as_ref().ok_or("the graph gave no logits")?;
        let (shape, all) = logits.try_extract_tensor::<f32>().map_err(|e| e.to_string())?;
        let vocabulary = *shape.last().ok_or("the logits are a scalar")? as usize;
        all.len().checked_sub(vocabulary).map(|start| &all[start..]).ok_or_else(|| "the logits have no row".to_owned())
    }
}

impl CausalModel for OrtModel {
    fn runtime_version(&self) -> &str {
        &self.version
    }

    fn providers(&self) -> &[ProviderShare] {
        &self.providers
    }

    fn reset(&mut self) {
        self.past.clear();
        self.past.resize_with(self.signature.parts, || None);
        self.length = 0;
    }

    fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], WireError> {
        self.try_feed(tokens).map_err(|e| rejected(Runtime::Ort, "run the model", &e.to_string()))?;
        self.last_row().map_err(|why| rejected(Runtime::Ort, "run the model", &why))
    }
}

/// Makes a session of an artifact in memory, whose data files need not exist anywhere. The session has copies of all that it
/// keeps: the assembly may go right after.
fn commit_from_memory(builder: &mut SessionBuilder, assembly: &Assembly) -> ort::Result<Session> {
    let texts = [DATA_FILE, SHARED_DATA_FILE].map(|name| CString::new(name).expect("names of data files have no nul byte"));
    let names = [texts[0].as_ptr(), texts[1].as_ptr()];
    let buffers: [&[u8]; 2] = [&assembly.data, &assembly.shared];
    let starts = buffers.map(|buffer| buffer.as_ptr().cast::<c_char>().cast_mut());
    let sizes = buffers.map(<[u8]>::len);
    // SAFETY: the three arrays have the length given. The library copies the names, and reads the buffers while the session is
    // made below, where they are still there; it writes to none. The builder is gone from the caller before they are.
    unsafe {
        let add = ort::api().AddExternalInitializersFromMemory;
        let status = add(builder.ptr_mut(), names.as_ptr(), starts.as_ptr(), sizes.as_ptr(), buffers.len());
        ort::Error::result_from_status(status)?;
    }
    builder.commit_from_memory(&assembly.model)
}

/// Heads and size of a cache input `[batch, heads, past, size]`. The number of heads may differ from layer to layer.
fn cache_shape(kind: &ValueType) -> Result<(i64, i64), String> {
    match kind {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => match shape[..] {
            [_, heads, _, size] if heads > 0 && size > 0 => Ok((heads, size)),
            _ => Err(format!("a cache of shape {:?}; heads and size must be fixed", &shape[..])),
        },
        other => Err(format!("a cache of {other:?}; only a tensor of f32 is supported")),
    }
}
