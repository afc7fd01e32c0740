//! `/stats`: how the ingress is, and all its counts, as one JSON object.

use serde_json::{Map, Value, json};

/// Adds the metrics in `text` (Prometheus' text format) to what is known of the ingress.
pub(super) fn stats(mut about: Value, text: &str) -> Value {
    let mut metrics: Map<String, Value> = Map::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels, value)) = sample(line) else {
            continue;
        };
        let samples = metrics
            .entry(name)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(samples) = samples {
            samples.push(match labels.is_empty() {
                true => json!({ "value": value }),
                false => json!({ "labels": labels, "value": value }),
            });
        }
    }
    about["metrics"] = Value::Object(metrics);
    about
}

/// `name{label="value",…} number`. The exporter writes it, so anything else is left out.
fn sample(line: &str) -> Option<(String, Map<String, Value>, Value)> {
    let (series, number) = line.rsplit_once(' ')?;
    let number = match number.parse::<u64>() {
        Ok(whole) => json!(whole),
        // NaN and infinity are `null`.
        Err(_) => json!(number.parse::<f64>().ok()?),
    };
    let Some((name, rest)) = series.split_once('{') else {
        return Some((series.to_owned(), Map::new(), number));
    };
    let mut labels = Map::new();
    let mut rest = rest.strip_suffix('}')?;
    while !rest.is_empty() {
        let (label, value) = rest.split_once("=\"")?;
        let (value, after) = quoted(value)?;
        labels.insert(label.to_owned(), value.into());
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some((name.to_owned(), labels, number))
}

/// Up to the closing quotation mark, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}
