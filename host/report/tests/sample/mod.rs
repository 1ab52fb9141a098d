//! A made-up study of the size of a real one.

use edgewise_report::{
    Agreement, Axis, Candidate, Comparison, Cut, Device, DriftPoint, Estimate, Fact, Hypervolume, Importance, LayerImportance,
    Measurement, Model, Quality, ReportData, Status, Workload,
};

const LAYERS: u32 = 30;
const MLP: u32 = 1536;
const GROUPS: u32 = 3;

/// Numbers without a pattern that are the same every time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1u32 << 31)
    }
}

fn fact(name: &str, value: &str) -> Fact {
    Fact { name: name.to_owned(), value: value.to_owned() }
}

fn compared(series: &str, perplexity: [Option<f64>; 2]) -> Comparison {
    let cuts = [0.22, 0.4].into_iter().zip(perplexity).map(|(less, perplexity)| Cut { less, perplexity });
    Comparison { series: series.to_owned(), cuts: cuts.collect() }
}

fn candidate(n: u32, cut: f64, noise: &mut Noise) -> Candidate {
    let drop = (cut.powi(3) * 14.0).round() as u32;
    let layers: Vec<u32> = (0..LAYERS).filter(|l| *l < 10 || *l >= 10 + drop).collect();
    let size = |noise: &mut Noise| {
        let share = if cut == 0.0 { 1.0 } else { (1.0 - 0.75 * cut + 0.3 * (noise.next() - 0.5) * cut).clamp(0.25, 1.0) };
        (share * f64::from(MLP) / 32.0).round() as u32 * 32
    };
    let mlp: Vec<u32> = layers.iter().map(|_| size(noise)).collect();
    let kv_groups: Vec<u32> = layers.iter().map(|_| if noise.next() < cut * 0.5 { 2 } else { GROUPS }).collect();
    let neurons: u32 = mlp.iter().sum();
    let groups: u32 = kv_groups.iter().sum();
    let parameters = 28_311_552 + u64::from(neurons) * 3 * 576 + u64::from(groups) * 294_912;
    let share = parameters as f64 / 134_515_008.0;
    let lost = 1.0 - share;
    let perplexity = 6.143 * (lost * lost * 14.0 + lost * 0.4 + noise.next() * lost * 2.2).exp();
    let estimate =
        |value: f64, width: f64| Estimate { median: value, ci95: [value * (1.0 - width), value * (1.0 + width)], n: 40 };
    let tpot = 19.3 * share * (1.0 + 0.04 * (noise.next() - 0.5));
    let ttft = 142.0 * share * (1.0 + 0.03 * (noise.next() - 0.5));
    Candidate {
        id: format!("c-{:012x}", u64::from(n + 1) * 0x9e37_79b9_7f4a % 0xffff_ffff_ffff),
        series: "search".to_owned(),
        layers,
        width: 576,
        kv_groups,
        mlp,
        head_size: None,
        parameters: Some(parameters),
        perplexity: Some(perplexity),
        kl: None,
        task_error: None,
        artifact_bytes: Some(parameters * 4 + 1_400_000),
        measurements: vec![Measurement {
            device: "jetson".to_owned(),
            runtime: "ort".to_owned(),
            precision: "fp32".to_owned(),
            ttft_ms: estimate(ttft, 0.006),
            tpot_ms: estimate(tpot, 0.004 + 0.02 * noise.next()),
            latency_ms: estimate(ttft + 63.0 * tpot, 0.01),
            trials: if n.is_multiple_of(3) { 4 } else { 1 },
            peak_rss_bytes: parameters * 5 + 60_000_000,
            joules_per_token: (n % 4 != 1).then_some(0.21 * share),
            converged: n % 9 != 4,
            flags: if n % 9 == 4 { vec!["not_converged".to_owned()] } else { Vec::new() },
        }],
        failures: Vec::new(),
    }
}

fn agreement(a: &str, b: &str, kendall: Option<f64>, spearman: Option<f64>, n: usize) -> Agreement {
    Agreement { a: a.to_owned(), b: b.to_owned(), kendall, spearman, n }
}

/// Scores that fall with depth, but for the last layers.
fn importance() -> Importance {
    let layer = |n: u32| {
        let score = if n > 26 { 0.4 } else { 0.3 / f64::from(n + 1) };
        let part = |share: f64| score * (-4.0 * share).exp();
        let neurons = (0..10).map(|k| part(f64::from(k) / 10.0)).collect();
        // Not sorted: the page does that.
        LayerImportance { score, kv_groups: vec![part(0.5), part(0.1), part(0.9)], neurons }
    };
    let (ranking, layer_ranking) = ("contribution".to_owned(), "block".to_owned());
    Importance { ranking, layer_ranking, layers: (0..LAYERS).map(layer).collect() }
}

/// So many sentinels of a device that slows down, the last outside the band.
pub(crate) fn sentinels(n: u32) -> Vec<DriftPoint> {
    let mut noise = Noise(11);
    let point = |k: u32| match k {
        0 => DriftPoint { minutes: 0.0, ttft_ratio: 1.0, tpot_ratio: 1.0 },
        _ => DriftPoint {
            minutes: f64::from(k) * 2.3,
            ttft_ratio: 1.0 + 0.006 * (noise.next() - 0.3),
            tpot_ratio: 1.0 + 0.034 * f64::from(k) / f64::from(n - 1) + 0.004 * (noise.next() - 0.5),
        },
    };
    (0..n).map(point).collect()
}

/// Two devices; the second has failures only and says little.
pub(crate) fn sample() -> ReportData {
    let mut noise = Noise(7);
    let cuts =
        [0.0, 0.25, 0.5, 0.12, 0.62, 0.42, 0.75, 0.2, 0.55, 0.33, 0.68, 0.3, 0.38, 0.18, 0.47, 0.36, 0.58, 0.27, 0.45, 0.22];
    let mut candidates: Vec<Candidate> = cuts.iter().zip(0..).map(|(cut, n)| candidate(n, *cut, &mut noise)).collect();
    for (n, recipe) in [(20, "depth"), (21, "uniform")] {
        let mut c = candidate(n, 0.35, &mut noise);
        c.series = format!("baseline:{recipe}");
        c.perplexity = c.perplexity.map(|p| p * 1.4);
        candidates.push(c);
    }
    let mut failed = candidate(22, 0.6, &mut noise);
    failed.measurements.clear();
    let message = "worker ended by the kernel: out of memory after loading 412 MiB of weights".to_owned();
    failed.failures.push(Status { device: Some("jetson".to_owned()), status: "out_of_memory".to_owned(), message });
    candidates.push(failed);
    let at = |c: &Candidate| (c.measurements.first().map_or(f64::MAX, |m| m.tpot_ms.median), c.perplexity.unwrap_or(f64::MAX));
    let better = |a: &Candidate, b: &Candidate| at(a).0 <= at(b).0 && at(a).1 <= at(b).1 && at(a) != at(b);
    let measured = candidates.iter().filter(|c| !c.measurements.is_empty());
    let front: Vec<String> = measured.filter(|c| !candidates.iter().any(|o| better(o, c))).map(|c| c.id.clone()).collect();
    let tied = |a: &Candidate, b: &Candidate| a.id != b.id && (at(a).0 / at(b).0).ln().abs() < 0.015;
    let ties = |id: &String| {
        let member = candidates.iter().find(|c| c.id == *id)?;
        let close = candidates.iter().filter(|c| tied(member, c) && at(c).1 < 1.5 * at(member).1);
        let ids: Vec<String> = close.map(|c| c.id.clone()).collect();
        (!ids.is_empty()).then(|| (id.clone(), ids))
    };
    let ties = front.iter().filter_map(ties).collect();
    let drift = sentinels(9);
    let jetson = Device {
        name: "jetson".to_owned(),
        target: "jetson-orin-nano".to_owned(),
        fingerprint: vec![
            fact("model", "NVIDIA Jetson Orin Nano Developer Kit"),
            fact("cpu", "Cortex-A78AE"),
            fact("cores", "6"),
            fact("memory_bytes", "7990218752"),
            fact("kernel", "5.15.136-tegra"),
            fact("governor", "schedutil"),
            fact("agent", "0.1.0 aarch64-unknown-linux-gnu"),
        ],
        front,
        ties,
        flags: vec!["sentinel_moved".to_owned(), "clock_capped".to_owned()],
        hypervolume: Some(Hypervolume { value: 187.4, reference: vec![24.57, 21.2] }),
        comparison: vec![
            compared("search", [Some(8.21), Some(15.37)]),
            compared("baseline:depth", [Some(17.6), Some(3598.0)]),
            compared("baseline:uniform", [Some(9.02), None]),
        ],
        drift,
    };
    let pi = Device {
        name: "pi5".to_owned(),
        target: "raspberry-pi-5".to_owned(),
        fingerprint: Vec::new(),
        front: Vec::new(),
        ties: Vec::new(),
        flags: Vec::new(),
        hypervolume: None,
        comparison: Vec::new(),
        drift: Vec::new(),
    };
    ReportData {
        study: "smollm2 on the kitchen jetson".to_owned(),
        model: Model {
            name: "SmolLM2-135M-Instruct".to_owned(),
            sha256: "3f5a".repeat(16),
            parameters: 134_515_008,
            layers: LAYERS,
            mlp: MLP,
            kv_groups: GROUPS,
        },
        workload: Workload { prompt_tokens: 128, generated_tokens: 64 },
        axis: Axis::TpotMs,
        quality: Quality::Perplexity,
        baseline: candidates[0].id.clone(),
        candidates,
        devices: vec![jetson, pi],
        importance: Some(importance()),
        portability: vec![
            agreement("jetson", "pi5", None, None, 0),
            agreement("parameters", "jetson", Some(0.91), Some(0.984), 22),
            agreement("artifact_bytes", "jetson", Some(-0.33), Some(-0.001), 22),
        ],
        method: vec![
            fact("command", "host search --model smollm2.gguf --device jetson --device pi5 --budget 20 --baselines"),
            fact("seed", "0"),
            fact("sampler", "diagonal-local"),
            fact("objectives", "perplexity, tpot_ms"),
            fact("held-out text", "policy.txt, 4 windows of 512 tokens"),
            fact("version", "edgewise 0.1.0"),
        ],
        seconds: vec![
            ("evaluate".to_owned(), 131.0),
            ("measure".to_owned(), 402.5),
            ("export".to_owned(), 9.2),
            ("transfer".to_owned(), 21.4),
        ],
    }
}
