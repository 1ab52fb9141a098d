//! ONNX Runtime's execution providers: asked for one by one, and what came of it.
//!
//! Contract: a provider that the library or the device lacks is no failure, for the processor can do everything; but it is told,
//! and so is every node that the processor got although another provider was asked for.

use crate::error::first_lines;
use edgewise_protocol::{Provider, ProviderShare};
use ort::{
    AsPointer,
    ep::{ACL, CUDA, CoreML, ExecutionProvider, NNAPI, QNN, TensorRT, XNNPACK},
    session::{Session, builder::SessionBuilder},
};
use std::ffi::CStr;

/// Has a session remember which provider got which node (ONNX Runtime 1.24 and later).
const RECORD: &str = "session.record_ep_graph_assignment_info";

/// Has the session remember who gets what.
///
/// # Errors
/// If the library cannot.
pub(super) fn recorded(builder: SessionBuilder) -> Result<SessionBuilder, String> {
    builder.with_config_entry(RECORD, "1").map_err(|e| e.to_string())
}

/// Asks for the providers in order; gives what is wrong with those that cannot be had.
pub(super) fn ask(builder: &mut SessionBuilder, asked: &[Provider]) -> Vec<(Provider, String)> {
    let mut problems = Vec::new();
    for &provider in asked {
        let outcome = match provider {
            Provider::Cpu => continue,
            Provider::Cuda => register(&CUDA::default(), builder),
            Provider::TensorRt => register(&TensorRT::default(), builder),
            Provider::Nnapi => register(&NNAPI::default(), builder),
            Provider::Xnnpack => register(&XNNPACK::default(), builder),
            Provider::Acl => register(&ACL::default(), builder),
            Provider::Qnn => register(&QNN::default(), builder),
            Provider::CoreMl => register(&CoreML::default(), builder),
        };
        if let Err(why) = outcome {
            problems.push((provider, why));
        }
    }
    problems
}

fn register<P: ExecutionProvider>(provider: &P, builder: &mut SessionBuilder) -> Result<(), String> {
    match P::is_available() {
        Ok(true) => provider.register(builder).map_err(|e| first_lines(&e.to_string(), 3)),
        Ok(false) => Err("this build of ONNX Runtime has no such provider".to_owned()),
        Err(e) => Err(first_lines(&e.to_string(), 3)),
    }
}

/// Nodes of each provider: those asked for first, in that order, then whoever else got some.
///
/// # Errors
/// If the library does not say.
pub(super) fn shares(
    session: &Session,
    asked: &[Provider],
    problems: Vec<(Provider, String)>,
) -> ort::Result<Vec<ProviderShare>> {
    let mut out: Vec<ProviderShare> = Vec::new();
    let share = |name: &str| ProviderShare { name: name.to_owned(), nodes: 0, problem: None };
    for provider in asked {
        if !out.iter().any(|s| s.name == provider.name()) {
            out.push(share(provider.name()));
        }
    }
    for (provider, why) in problems {
        if let Some(asked) = out.iter_mut().find(|s| s.name == provider.name()) {
            asked.problem = Some(why);
        }
    }
    for (name, nodes) in assigned(session)? {
        match out.iter_mut().find(|s| s.name == name) {
            Some(known) => known.nodes = known.nodes.saturating_add(nodes),
            None => out.push(ProviderShare { nodes, ..share(&name) }),
        }
    }
    Ok(out)
}

/// Parts of the graph, with the name of who got each and how many nodes it has.
fn assigned(session: &Session) -> ort::Result<Vec<(String, u32)>> {
    let api = ort::api();
    let mut parts = std::ptr::null();
    let mut count = 0;
    // SAFETY: the session lives; the library writes to two valid places a pointer and a length of an array that the session
    // owns, whose elements stay as long as it does.
    let parts = unsafe {
        let status = (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &raw mut parts, &raw mut count);
        ort::Error::result_from_status(status)?;
        if parts.is_null() { &[] } else { std::slice::from_raw_parts(parts, count) }
    };
    let mut out = Vec::with_capacity(parts.len());
    for &part in parts {
        let (mut name, mut nodes, mut count) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: `part` came from the library just now; name and nodes belong to it, and the name is nul-terminated.
        let name = unsafe {
            ort::Error::result_from_status((api.EpAssignedSubgraph_GetEpName)(part, &raw mut name))?;
            ort::Error::result_from_status((api.EpAssignedSubgraph_GetNodes)(part, &raw mut nodes, &raw mut count))?;
            if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
        };
        out.push((name, u32::try_from(count).unwrap_or(u32::MAX)));
    }
    Ok(out)
}
