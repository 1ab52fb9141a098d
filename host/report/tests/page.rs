//! What must hold for every page, whatever is in it.

mod sample;

use edgewise_report::{Agreement, Axis, Estimate, Fact, LayerImportance, Quality, ReportData, Status, render};
use sample::{sample, sentinels};

/// Walks the page as XML: every tag closed in order, every attribute quoted, no stray `<` or `&`. Returns the names of elements.
fn elements(page: &str) -> Vec<String> {
    let body = page.strip_prefix("<!DOCTYPE html>").expect("a document type");
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let mut rest = body;
    while let Some(start) = rest.find('<') {
        entities(&rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closes another element: {tag}");
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()), "element `{name}`");
        // Split at quotes, names of attributes and values alternate.
        let parts: Vec<&str> = attributes.split('"').collect();
        assert!(parts.len() % 2 == 1, "an attribute of {tag} is not quoted");
        for (k, part) in parts.iter().enumerate() {
            if k % 2 == 1 {
                entities(part);
            } else if k + 1 < parts.len() {
                let attribute = part.trim().strip_suffix('=').expect("attribute=\"value\"");
                assert!(attribute.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "attribute `{attribute}` in {tag}");
            } else {
                assert_eq!(part.trim(), "", "{tag}");
            }
        }
        all.push(name.to_owned());
        if !closed {
            open.push(name.to_owned());
        }
    }
    entities(rest);
    assert!(open.is_empty(), "left open: {open:?}");
    all
}

fn entities(text: &str) {
    for at in text.match_indices('&').map(|m| m.0) {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        assert!(known.iter().any(|k| text[at..].starts_with(k)), "stray ampersand in {text}");
    }
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "control character in {text:?}");
}

fn count(page: &str, needle: &str) -> usize {
    page.matches(needle).count()
}

#[test]
fn a_page_shows_every_candidate_once_per_device_and_every_measured_one_in_the_plot() {
    let data = sample();
    let page = render(&data);
    let names = elements(&page);
    assert_eq!(count(&page, "<tr id=\""), data.candidates.len() * data.devices.len());
    let measured = data.candidates.iter().filter(|c| !c.measurements.is_empty()).count();
    assert_eq!(count(&page, "<a class=\"point "), measured);
    let front = data.devices[0].front.len();
    assert!(front >= 3);
    assert_eq!(count(&page, "<a class=\"point search best\"") + count(&page, "<a class=\"point baseline best\""), front);
    assert_eq!(count(&page, "<a class=\"point baseline"), 1);
    assert_eq!(count(&page, "<a class=\"point recipe"), 2);
    assert_eq!(count(&page, "<path class=\"front\""), 1, "only one device has a front");
    assert_eq!(count(&page, "class=\"profile\""), data.candidates.len() * data.devices.len());
    assert_eq!(count(&page, "<circle class=\"dot\" cx=\"") - 2, 2 * data.devices[0].drift.len(), "drift, without the legend's");
    assert!(page.contains("Nothing was measured on this device yet."));
    assert!(page.contains("out of memory after loading 412 MiB"));
    assert!(names.iter().filter(|n| *n == "h1").count() == 1);
    // Each point leads to a row that is there.
    for link in page.split("href=\"#").skip(1) {
        let target = link.split('"').next().unwrap();
        assert_eq!(count(&page, &format!("<tr id=\"{target}\"")), 1, "{target}");
    }
}

#[test]
fn a_page_loads_nothing() {
    let page = render(&sample());
    for word in ["http:", "https:", "//", "src=", "<link", "@import", "url(", "fetch(", "XMLHttpRequest"] {
        let found = page.match_indices(word).find(|(at, _)| !comment(&page, *at));
        assert!(found.is_none(), "{word}: {:?}", found.map(|(at, _)| &page[at.saturating_sub(40)..at + 40]));
    }
    assert!(page.contains("default-src 'none'"));
}

/// Whether this is a comment line of the script.
fn comment(page: &str, at: usize) -> bool {
    page[..at].rfind('\n').is_some_and(|start| page[start..at].trim().is_empty())
}

#[test]
fn recipes_are_compared_where_there_are_some() {
    let page = render(&sample());
    let table = page.split("<table class=\"comparison\">").nth(1).and_then(|t| t.split("</table>").next()).unwrap();
    assert_eq!(count(table, "<th scope=\"row\">"), 3);
    assert!(table.contains("perplexity at 22 % less") && table.contains("perplexity at 40 % less"), "{table}");
    assert!(table.contains(">depth</th>") && table.contains(">search</th>"), "{table}");
    // The lowest of each column, and the recipe that does not go so far.
    assert_eq!(count(table, "<strong>"), 2);
    assert!(table.contains("<strong>8.21</strong>") && table.contains("<strong>15.4</strong>"), "{table}");
    assert_eq!(count(&page, "<table class=\"comparison\">"), 1, "the other device has measured none");
    // Recipes are no gain of the search.
    let mut data = sample();
    let gain = |data: &edgewise_report::ReportData| render(data).split("Gain within").nth(2).map(|t| t[..120].to_owned());
    let before = gain(&data);
    for candidate in data.candidates.iter_mut().filter(|c| c.series.starts_with("baseline:")) {
        candidate.perplexity = Some(0.5);
    }
    assert_eq!(gain(&data), before);
}

/// Where the labels of the front's vertical axis end.
fn highest_label(page: &str) -> f64 {
    let axes = page.split("<g class=\"axes\">").nth(1).unwrap().split("</g>").next().unwrap();
    let labels = axes.split("text-anchor=\"end\">").skip(1).map(|t| t.split('<').next().unwrap().parse::<f64>().unwrap());
    labels.fold(0.0, f64::max)
}

#[test]
fn a_recipe_that_ruins_the_network_does_not_flatten_the_plot() {
    let mut data = sample();
    let before = highest_label(&render(&data));
    let recipe = data.candidates.iter_mut().find(|c| c.series == "baseline:depth").unwrap();
    recipe.perplexity = Some(1e6);
    let page = render(&data);
    assert!(highest_label(&page) <= before, "{before} {}", highest_label(&page));
    assert_eq!(count(&page, "<a class=\"point recipe"), 2, "it is still there");
    assert_eq!(count(&page, "l5.5 10h-11Z"), 2, "as an arrow, and in the legend");
    assert!(page.contains("beyond the upper edge"));
    // Without a search beside them, recipes are what is to be seen.
    data.candidates.retain(|c| c.series.starts_with("baseline:"));
    assert!(highest_label(&render(&data)) >= 1e5);
}

#[test]
fn hostile_text_stays_text() {
    let evil = "<script>alert(1)</script>\"'&]]>\0\u{202e}";
    let mut data = sample();
    let status = Status { device: None, status: evil.to_owned(), message: evil.to_owned() };
    data.study = evil.to_owned();
    data.model.name = evil.to_owned();
    data.model.sha256 = evil.to_owned();
    data.method.push(Fact { name: evil.to_owned(), value: evil.to_owned() });
    data.seconds.push((evil.to_owned(), 1.0));
    let device = &mut data.devices[0];
    device.name = evil.to_owned();
    device.target = evil.to_owned();
    device.fingerprint.push(Fact { name: evil.to_owned(), value: evil.to_owned() });
    device.front.push(evil.to_owned());
    device.flags = vec![evil.to_owned()];
    device.comparison[1].series = evil.to_owned();
    let strangers = vec![evil.to_owned(), format!("{evil}2"), format!("{evil}3"), format!("{evil}4")];
    device.ties.push((evil.to_owned(), strangers.clone()));
    device.ties.push((format!("{evil}{}", data.baseline), strangers));
    let importance = data.importance.as_mut().unwrap();
    importance.ranking = evil.to_owned();
    importance.layer_ranking = evil.to_owned();
    data.portability.push(Agreement { a: evil.to_owned(), b: evil.to_owned(), kendall: None, spearman: None, n: 0 });
    for candidate in &mut data.candidates {
        candidate.id = format!("{evil}{}", candidate.id);
        candidate.series = format!("baseline:{evil}");
        candidate.failures.push(status.clone());
        for m in &mut candidate.measurements {
            m.device = evil.to_owned();
            m.runtime = evil.to_owned();
            m.precision = evil.to_owned();
            m.flags.push(evil.to_owned());
        }
    }
    let page = render(&data);
    let names = elements(&page);
    assert_eq!(names.iter().filter(|n| *n == "script").count(), 1, "our own");
    assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
}

#[test]
fn numbers_that_are_none_leave_no_trace() {
    let mut data = sample();
    let nan = Estimate { median: f64::NAN, ci95: [f64::NEG_INFINITY, f64::INFINITY], n: 0 };
    data.candidates[1].perplexity = Some(f64::INFINITY);
    data.candidates[2].measurements[0].tpot_ms = nan;
    data.candidates[2].measurements[0].ttft_ms = nan;
    data.candidates[3].measurements[0].tpot_ms.ci95 = [f64::NAN; 2];
    data.candidates[4].mlp.clear();
    data.candidates[4].kv_groups.clear();
    data.candidates[5].layers.clear();
    data.devices[0].drift[0].tpot_ratio = f64::NAN;
    data.devices[0].drift[1].minutes = f64::INFINITY;
    data.candidates[6].measurements[0].joules_per_token = Some(f64::NAN);
    data.candidates[7].measurements[0].trials = 0;
    (data.portability[1].kendall, data.portability[1].spearman) = (Some(f64::NAN), Some(f64::INFINITY));
    data.seconds[0].1 = f64::NAN;
    let layers = &mut data.importance.as_mut().unwrap().layers;
    (layers[0].score, layers[1].neurons[3], layers[2].kv_groups[0]) = (f64::NAN, f64::INFINITY, f64::NEG_INFINITY);
    let page = render(&data);
    elements(&page);
    assert!(!page.contains("NaN") && !page.contains(">inf") && !page.contains("\"inf"), "a number leaked");
}

#[test]
fn an_empty_study_and_every_axis_make_a_page() {
    let mut empty = sample();
    empty.candidates.clear();
    empty.method.clear();
    empty.seconds.clear();
    empty.model.layers = 0;
    elements(&render(&empty));
    empty.devices.clear();
    elements(&render(&empty));
    for axis in [Axis::TtftMs, Axis::TpotMs, Axis::LatencyMs, Axis::PeakRssBytes, Axis::Parameters] {
        let page = render(&ReportData { axis, ..sample() });
        elements(&page);
        assert_eq!(count(&page, "<path class=\"front\""), 1, "{axis:?}");
    }
}

#[test]
fn the_front_is_drawn_against_what_was_searched_for() {
    let mut data = sample();
    assert!(!candidates(&render(&data)).contains("Task error"));
    for (n, candidate) in data.candidates.iter_mut().enumerate() {
        candidate.task_error = Some(0.5 + 0.01 * n as f64);
    }
    data.candidates[3].task_error = None;
    let measured = data.candidates.iter().filter(|c| !c.measurements.is_empty()).count();
    data.quality = Quality::TaskError;
    let page = render(&data);
    elements(&page);
    assert_eq!(count(&page, "<a class=\"point "), measured - 1, "what was not asked has no place");
    assert!(page.contains(">error on tasks<") && page.contains(" · error on tasks 0.500 · "));
    let first = row(&page, &data, &data.baseline);
    assert!(first.contains("<td data-sort=\"0.5\">0.500</td>"), "{first}");
    assert_eq!(count(row(&page, &data, &data.candidates[3].id), "<td"), count(candidates(&page), "<th scope=\"col\"") - 1);
    data.quality = Quality::Kl;
    assert_eq!(count(&render(&data), "<a class=\"point "), 0, "without values there is no front");
}

/// The table of candidates of the first device.
fn candidates(page: &str) -> &str {
    page.split("<table class=\"candidates\">").nth(1).and_then(|rest| rest.split("</table>").next()).unwrap()
}

/// The row of a candidate, in that table.
fn row<'a>(page: &'a str, data: &ReportData, id: &str) -> &'a str {
    let k = data.candidates.iter().position(|c| c.id == id).unwrap();
    page.split(&format!("<tr id=\"d0-c{k}\"")).nth(1).and_then(|rest| rest.split("</tr>").next()).unwrap()
}

#[test]
fn ties_are_columns_links_and_bands() {
    let mut data = sample();
    let [member, off, other] = [0, 1, 2].map(|k| data.candidates[k].id.clone());
    data.devices[0].front = vec![member.clone(), other.clone()];
    data.devices[0].ties =
        vec![(member.clone(), vec![off.clone(), other.clone(), "c-gone".to_owned()]), (other.clone(), vec![member.clone()])];
    let page = render(&data);
    elements(&page);
    let cell = |id| row(&page, &data, id).split("class=\"tied-with\">").nth(1).unwrap().split("</td>").next().unwrap();
    let link = |k: u32, id: &str| format!("<span>≈ <a href=\"#d0-c{k}\"><code>{id}</code></a></span>");
    assert!(cell(&member).contains(&link(1, &off)) && cell(&member).contains(&link(2, &other)));
    assert!(cell(&member).contains("<summary>1 more</summary>") && cell(&member).contains("<span>≈ <code>c-gone</code></span>"));
    assert_eq!(cell(&off).trim(), link(0, &member), "a tie holds in both directions");
    assert_eq!(cell(&data.candidates[3].id), "");
    assert!(row(&page, &data, &off).contains("class=\"tied\"") && row(&page, &data, &member).contains("class=\"best\""));
    let bands = page.split("<g class=\"ties\">").nth(1).unwrap().split("</g>").next().unwrap();
    assert_eq!(count(bands, "<path"), 2, "each pair once, without what is not in the plot");
    assert_eq!(count(&page, "noise does not tell their latencies apart"), 1);
    assert!(page.contains("2 of them tied with another") && page.contains(&format!(" · tied with {member}\"")));

    data.devices[0].ties.clear();
    let page = render(&data);
    assert!(!candidates(&page).contains("tied") && !page.contains("noise does not tell"), "without ties there is no such column");
    assert!(page.contains("front only"));
}

#[test]
fn trials_are_always_shown_and_energy_and_latency_where_they_matter() {
    let mut data = sample();
    let has = |data: &ReportData, heading: &str| candidates(&render(data)).contains(&format!(">{heading}</button>"));
    assert!(has(&data, "Trials") && has(&data, "Energy per token") && !has(&data, "Latency"));
    data.candidates[0].measurements[0].trials = 17;
    data.candidates[0].measurements[0].joules_per_token = Some(0.125);
    let page = render(&data);
    let first = row(&page, &data, &data.baseline);
    assert!(first.contains("<td data-sort=\"17\">17</td>") && first.contains("<td data-sort=\"0.125\">0.125 J</td>"), "{first}");
    for candidate in &mut data.candidates {
        candidate.measurements.iter_mut().for_each(|m| m.joules_per_token = None);
    }
    data.axis = Axis::LatencyMs;
    assert!(has(&data, "Trials") && !has(&data, "Energy per token") && has(&data, "Latency") && !has(&data, "Head size"));
    data.candidates[0].head_size = Some(48);
    assert!(has(&data, "Head size") && row(&render(&data), &data, &data.baseline).contains("<td data-sort=\"48\">48</td>"));
    // Headings and cells stay in step.
    let page = render(&data);
    assert_eq!(count(row(&page, &data, &data.baseline), "<td"), count(candidates(&page), "<th scope=\"col\"") - 1);
}

#[test]
fn flags_come_before_any_number_of_their_device() {
    let mut data = sample();
    data.devices[1].flags = vec!["emulated".to_owned(), "made_up".to_owned()];
    let page = render(&data);
    let pi = page.split("<h2>pi5").nth(1).unwrap();
    let before = pi.split("<dl").next().unwrap();
    assert!(before.contains(">emulated</code> An emulator ran the models") && before.contains(">made_up</code>"), "{before}");
    data.devices.iter_mut().for_each(|d| d.flags.clear());
    assert!(!render(&data).contains("role=\"note\""));
}

#[test]
fn drift_is_drawn_for_one_sentinel_and_for_a_hundred() {
    let mut data = sample();
    for n in [1, 2, 100] {
        data.devices[0].drift = sentinels(n);
        let page = render(&data);
        elements(&page);
        let plot = page.split("<svg class=\"plot small\"").nth(1).unwrap().split("</svg>").next().unwrap();
        assert_eq!(count(plot, "<circle"), 2 * n as usize);
        assert!(!plot.contains("NaN") && !plot.contains("inf"), "{n}");
        let numbers = |attribute: &str| -> Vec<f64> {
            plot.split(&format!(" {attribute}=\"")).skip(1).map(|r| r.split('"').next().unwrap().parse().unwrap()).collect()
        };
        assert!(
            numbers("cx").iter().all(|x| (66.0..=406.0).contains(x)) && numbers("cy").iter().all(|y| (12.0..=150.0).contains(y))
        );
        let band = plot.split("<rect class=\"band\"").nth(1).unwrap().split('>').next().unwrap();
        let height: f64 = band.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        // Six percent of a range that the data widen beyond its smallest, eight and a half.
        assert!((40.0..=100.0).contains(&height), "{n}: {height}");
        assert!(page.contains("within 3 %") && page.contains(if n == 1 { "one block only" } else { "outside ±3 %" }));
    }
    data.devices[0].drift.clear();
    assert!(!render(&data).contains("<svg class=\"plot small\""));
}

/// The picture of importance.
fn importance(page: &str) -> Option<&str> {
    page.split("<svg class=\"plot importance\"").nth(1)?.split("</svg>").next()
}

#[test]
fn importance_is_a_row_for_each_layer() {
    let mut data = sample();
    let page = render(&data);
    let plot = importance(&page).unwrap();
    assert_eq!(count(plot, "<g class=\"row\""), 30);
    assert_eq!((count(plot, "class=\"score\""), count(plot, "class=\"cell\"")), (30, 30 * (10 + 3)));
    // The groups of a layer are put in order.
    assert!(plot.contains("layer 29 · score 0.400 · neurons 0.400 to 0.0109 · groups 0.268 to 0.0109\""), "{plot}");
    assert!(page.contains("<code>contribution</code>") && page.contains("layers, by <code>block</code>"));
    let numbers = |attribute: &str| -> Vec<f64> {
        plot.split(&format!(" {attribute}=\"")).skip(1).map(|r| r.split('"').next().unwrap().parse().unwrap()).collect()
    };
    assert!(
        numbers("x").iter().all(|x| (0.0..=760.0).contains(x)) && numbers("opacity").iter().all(|o| (0.06..=1.0).contains(o))
    );

    // A network that does better without a layer, one of a single layer, and one that is deeper than a page.
    let layers = &mut data.importance.as_mut().unwrap().layers;
    layers[4].score = -0.1;
    elements(&render(&data));
    let layer = |score| LayerImportance { score, kv_groups: vec![0.0], neurons: vec![0.0; 3] };
    for layers in [vec![layer(0.0)], (0..2000).map(|n| layer(f64::from(n))).collect()] {
        data.importance.as_mut().unwrap().layers = layers;
        let page = render(&data);
        elements(&page);
        assert!(!importance(&page).unwrap().contains("NaN") && count(&page, "<g class=\"row\"") <= 200);
    }
    data.importance.as_mut().unwrap().layers.clear();
    assert_eq!(importance(&render(&data)), None);
    data.importance = None;
    assert!(!render(&data).contains("What matters in the full network"));
}

#[test]
fn portability_is_a_table_of_devices_and_then_of_proxies() {
    let mut data = sample();
    data.portability.reverse();
    let page = render(&data);
    let names = [
        "<table class=\"agreement\">",
        ">jetson</th><td>pi5</td><td>–</td><td>–</td><td>0<",
        ">What is known",
        ">size of the artifact</th>",
    ];
    let places: Vec<usize> = names.iter().map(|name| page.find(name).unwrap_or_else(|| panic!("{name}"))).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(page.contains(">number of parameters</th><td>jetson</td><td>0.91</td><td>0.98</td><td>22<"));
    assert!(page.contains("<td>−0.33</td><td>0.00</td>"));
    data.portability.clear();
    let page = render(&data);
    assert!(!page.contains("<table class=\"agreement\">") && !page.contains("predicts whose"));
}

#[test]
fn data_survive_json_and_pages_are_deterministic() {
    let data = sample();
    let json = serde_json::to_string(&data).unwrap();
    let back: ReportData = serde_json::from_str(&json).unwrap();
    assert!(back == data);
    assert!(render(&back) == render(&data));
}
