//! Text through the real agent and its real worker.

use crate::support::{Agent, code, endless_job, eventually, ort_library};
use edgewise_protocol::{
    AgentMessage, ArtifactFile, Ended, ErrorCode, GenerateJob, Generation, HostMessage, OrtLibrary, Provider, Reply, Request,
    Runtime, Sampling, Source, Stage, WireError,
};

fn job(files: Vec<ArtifactFile>, runtime: Runtime) -> GenerateJob {
    GenerateJob {
        source: Source::Files(files),
        runtime,
        ort: OrtLibrary::Default,
        providers: Vec::new(),
        threads: 1,
        prompt: vec![3, 14, 15, 92],
        max_tokens: 12,
        stop: Vec::new(),
        vocabulary: 97,
        sampling: Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 },
        deadline_ms: 60_000,
        lease_wait_ms: 0,
    }
}

/// The tokens as they came, and how it ended.
fn text(agent: &mut Agent, job: GenerateJob) -> (Vec<u32>, Result<Generation, WireError>) {
    let id = agent.ask(Request::Generate(Box::new(job)));
    let mut all = Vec::new();
    loop {
        match agent.next() {
            AgentMessage::Tokens { id: of, tokens } if of == id => all.extend(tokens),
            AgentMessage::Reply { id: of, result } if of == id => {
                return (
                    all,
                    result.map(|reply| match reply {
                        Reply::Generated(generation) => *generation,
                        other => panic!("{other:?}"),
                    }),
                );
            }
            _ => {}
        }
    }
}

#[test]
fn a_text_goes_on_where_its_prompt_ends() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let (whole, end) = text(&mut agent, job(files.clone(), Runtime::Tract));
    let end = end.unwrap();
    assert_eq!((whole.len(), end.tokens, end.steps, end.ended), (12, 12, 11, Ended::Length));
    assert!(end.prefill_ns > 0 && end.decode_ns > 0 && end.load_ns > 0 && end.peak_rss_bytes > 4 << 20, "{end:?}");
    assert!(end.providers.is_empty() && !end.emulated, "{end:?}");
    let mut later = job(files.clone(), Runtime::Tract);
    later.prompt.extend(&whole[..5]);
    later.max_tokens = 7;
    assert_eq!(text(&mut agent, later).0, whole[5..]);

    let stop = whole[6];
    let before = whole.iter().position(|token| *token == stop).unwrap();
    let (stopped, end) = text(&mut agent, GenerateJob { stop: vec![stop], ..job(files.clone(), Runtime::Tract) });
    assert_eq!((stopped, end.unwrap().ended), (whole[..before].to_vec(), Ended::Stop));

    let warm = |seed| Sampling { temperature: 1.5, seed, ..job(Vec::new(), Runtime::Tract).sampling };
    let mut draw = |seed| text(&mut agent, GenerateJob { sampling: warm(seed), ..job(files.clone(), Runtime::Tract) }).0;
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert!(agent.workers().is_empty(), "the workers are gone");
}

#[test]
fn onnx_runtime_writes_the_same_and_says_who_carried_it_out() {
    let Some(library) = ort_library() else { return };
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let (by_tract, _) = text(&mut agent, job(files.clone(), Runtime::Tract));
    let providers = vec![Provider::Cuda, Provider::Cpu];
    let asked = GenerateJob { ort: OrtLibrary::Path(library), providers, ..job(files, Runtime::Ort) };
    let (by_ort, end) = text(&mut agent, asked);
    assert_eq!(by_ort, by_tract);
    let [cuda, cpu] = &end.unwrap().providers[..] else { panic!("two were asked for") };
    assert_eq!((cuda.name.as_str(), cuda.nodes, cpu.name.as_str()), ("CUDAExecutionProvider", 0, "CPUExecutionProvider"));
    assert!(cuda.problem.as_ref().is_some_and(|why| why.contains("provider")), "{cuda:?}");
    assert!(cpu.nodes > 20 && cpu.problem.is_none(), "{cpu:?}");
}

#[test]
fn a_text_is_given_up_at_once_and_shares_the_device_with_nobody() {
    let mut agent = Agent::new();
    let files = agent.put_tiny();
    let long = GenerateJob { max_tokens: 1 << 19, deadline_ms: 600_000, ..job(files.clone(), Runtime::Tract) };
    let id = agent.ask(Request::Generate(Box::new(long.clone())));
    loop {
        if matches!(agent.next(), AgentMessage::Tokens { .. }) {
            break;
        }
    }
    agent.send(&HostMessage::Cancel { id });
    let cancelled = loop {
        if let AgentMessage::Reply { id: of, result } = agent.next() {
            assert_eq!(of, id);
            break result;
        }
    };
    assert_eq!(code(cancelled), ErrorCode::Cancelled);
    eventually("the worker is gone", || agent.workers().is_empty().then_some(()));

    let measuring = agent.ask(Request::Measure(Box::new(endless_job(files))));
    agent.wait_for_stage(measuring, Stage::Warm);
    assert_eq!(text(&mut agent, long.clone()).1.unwrap_err().code, ErrorCode::Busy);
    agent.send(&HostMessage::Cancel { id: measuring });
    assert_eq!(code(agent.reply(measuring)), ErrorCode::Cancelled);
    let bad = GenerateJob { prompt: vec![97], ..long };
    assert_eq!(text(&mut agent, bad).1.unwrap_err().code, ErrorCode::BadRequest);
}
