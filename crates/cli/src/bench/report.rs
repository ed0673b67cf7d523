//! What a scenario found, as lines for people or as one JSON object.
use serde_json::{Map, Value};

/// Figures in the order in which they were found.
#[derive(Debug)]
pub(super) struct Report {
    scenario: &'static str,
    figures: Vec<(&'static str, f64)>,
}

impl Report {
    /// Nothing found yet.
    pub(super) fn new(scenario: &'static str) -> Self {
        Self { scenario, figures: Vec::new() }
    }

    /// A figure; its name ends with its unit.
    pub(super) fn add(&mut self, name: &'static str, value: f64) -> &mut Self {
        self.figures.push((name, value));
        self
    }

    /// A figure that was found.
    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// For scripts: figures that can't be (a share of nothing) are null.
    pub(super) fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("scenario".into(), self.scenario.into());
        for (name, value) in &self.figures {
            // Whole numbers as such: counts stay counts.
            let is_whole = value.fract() == 0.0 && value.abs() < 9e15;
            object.insert((*name).into(), if is_whole { (*value as i64).into() } else { rounded(*value).into() });
        }
        Value::Object(object)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let width = self.figures.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = format!("{}\n", self.scenario);
        for (name, value) in &self.figures {
            text += &format!("  {:width$}  {}\n", name.replace('_', " "), rounded(*value));
        }
        text
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_their_order_and_counts_are_whole() {
        let mut report = Report::new("pairs");
        report.add("delivered", 12.0).add("seconds", 1.23456).add("share", f64::NAN);
        assert_eq!(report.json().to_string(), r#"{"delivered":12,"scenario":"pairs","seconds":1.235,"share":null}"#);
        assert_eq!(report.text(), "pairs\n  delivered  12\n  seconds    1.235\n  share      NaN\n");
        assert_eq!((report.figure("seconds"), report.figure("other")), (Some(1.23456), None));
    }
}
