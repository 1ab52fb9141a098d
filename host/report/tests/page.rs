//! What must hold for every page, whatever is in it.

mod sample;

use edgewise_report::{Axis, Estimate, Fact, ReportData, Status, render};
use sample::sample;

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
    data.seconds[0].1 = f64::NAN;
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
fn data_survive_json_and_pages_are_deterministic() {
    let data = sample();
    let json = serde_json::to_string(&data).unwrap();
    let back: ReportData = serde_json::from_str(&json).unwrap();
    assert!(back == data);
    assert!(render(&back) == render(&data));
}
