//! The metrics of `/metrics` as OTLP has them: made of the same text, so that both always say the
//! same.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::spans::{attribute, library, resource_of};
use crate::telemetry::trace::names;

/// Writes requests.
pub(super) struct Encoder {
    resource: Resource,
    /// Since when everything has been counted.
    start: u64,
}

impl Encoder {
    pub fn new(resource: &[(String, String)]) -> Self {
        Self {
            resource: resource_of(resource),
            start: now(),
        }
    }

    /// The request, and how many data points it holds.
    pub fn encode(&self, text: &str) -> (Vec<u8>, u64) {
        let families = families(text);
        let now = now();
        let mut points = 0;
        let metrics = families
            .iter()
            .filter_map(|family| {
                let (metric, count) = family.written(self.start, now)?;
                points += count;
                Some(metric)
            })
            .collect();
        let scope_metrics = ScopeMetrics {
            scope: Some(library()),
            metrics,
            schema_url: names::SCHEMA.to_owned(),
        };
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![scope_metrics],
                schema_url: names::SCHEMA.to_owned(),
            }],
        };
        (request.encode_to_vec(), points as u64)
    }
}

/// How many data points a collector says it has rejected.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    ExportMetricsServiceResponse::decode(answer)
        .ok()
        .and_then(|answer| answer.partial_success)
        .map_or(0, |partial| {
            u64::try_from(partial.rejected_data_points).unwrap_or(0)
        })
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// All samples of a name.
#[derive(Debug, Default, PartialEq)]
struct Family {
    name: String,
    help: String,
    kind: String,
    samples: Vec<Sample>,
}

#[derive(Debug, PartialEq)]
struct Sample {
    /// With `_bucket`, `_sum` and `_count` of histograms.
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Reads our own Prometheus text.
fn families(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let mut help = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, about)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            help.insert(name.to_owned(), about.to_owned());
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            families.push(Family {
                name: name.to_owned(),
                help: help.remove(name).unwrap_or_default(),
                kind: kind.to_owned(),
                samples: Vec::new(),
            });
        } else if !line.starts_with('#')
            && let Some(sample) = sample(line)
            && let Some(family) = families.last_mut()
        {
            family.samples.push(sample);
        }
    }
    families
}

fn sample(line: &str) -> Option<Sample> {
    let (name, labels, value) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = labels(rest)?;
            (name, labels, value)
        }
        None => {
            let (name, value) = line.split_once(' ')?;
            (name, Vec::new(), value)
        }
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.trim().parse().ok()?,
    })
}

/// `a="b",c="d"} 1`: the labels, and what follows them.
fn labels(text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(value) = rest.strip_prefix('}') {
            return Some((labels, value));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        rest = loop {
            match chars.next()? {
                (at, '"') => break &after[at + 1..],
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
    }
}

impl Family {
    /// Nothing for a kind that we do not have.
    fn written(&self, start: u64, now: u64) -> Option<(Metric, usize)> {
        let numbers = |start| -> Vec<NumberDataPoint> {
            let samples = self.samples.iter();
            samples.map(|sample| number(sample, start, now)).collect()
        };
        let (data, count) = match self.kind.as_str() {
            "counter" => {
                let data_points = numbers(start);
                let count = data_points.len();
                let sum = Sum {
                    data_points,
                    aggregation_temporality: AggregationTemporality::Cumulative.into(),
                    is_monotonic: true,
                };
                (metric::Data::Sum(sum), count)
            }
            "gauge" => {
                let data_points = numbers(0);
                let count = data_points.len();
                (metric::Data::Gauge(Gauge { data_points }), count)
            }
            "histogram" => {
                let data_points = self.histograms(start, now);
                let count = data_points.len();
                let histogram = Histogram {
                    data_points,
                    aggregation_temporality: AggregationTemporality::Cumulative.into(),
                };
                (metric::Data::Histogram(histogram), count)
            }
            _ => return None,
        };
        let metric = Metric {
            name: self.name.clone(),
            description: self.help.clone(),
            unit: self.unit().to_owned(),
            metadata: Vec::new(),
            data: Some(data),
        };
        Some((metric, count))
    }

    fn unit(&self) -> &'static str {
        let name = self.name.trim_end_matches("_total");
        if name.ends_with("_seconds") {
            "s"
        } else if name.ends_with("_bytes") {
            "By"
        } else {
            ""
        }
    }

    /// Prometheus counts what is below a bound, OTLP what is between two.
    fn histograms(&self, start: u64, now: u64) -> Vec<HistogramDataPoint> {
        let mut points: Vec<(Vec<(String, String)>, HistogramDataPoint)> = Vec::new();
        for sample in &self.samples {
            let own = |(name, _): &&(String, String)| name != "le";
            let labels: Vec<_> = sample.labels.iter().filter(own).cloned().collect();
            let at = points.iter().position(|(known, _)| *known == labels);
            let at = at.unwrap_or_else(|| {
                let point = HistogramDataPoint {
                    attributes: attributes(&labels),
                    start_time_unix_nano: start,
                    time_unix_nano: now,
                    ..HistogramDataPoint::default()
                };
                points.push((labels, point));
                points.len() - 1
            });
            let point = &mut points[at].1;
            let count = sample.value as u64;
            if sample.name.ends_with("_sum") {
                point.sum = Some(sample.value);
            } else if sample.name.ends_with("_count") {
                point.count = count;
            } else if let Some((_, bound)) = sample.labels.iter().find(|(name, _)| name == "le") {
                let below: u64 = point.bucket_counts.iter().sum();
                point.bucket_counts.push(count.saturating_sub(below));
                point
                    .explicit_bounds
                    .extend(bound.parse().ok().filter(|bound: &f64| bound.is_finite()));
            }
        }
        points.into_iter().map(|(_, point)| point).collect()
    }
}

fn attributes(labels: &[(String, String)]) -> Vec<KeyValue> {
    labels
        .iter()
        .map(|(name, value)| attribute(name, any_value::Value::StringValue(value.clone())))
        .collect()
}

fn number(sample: &Sample, start: u64, now: u64) -> NumberDataPoint {
    // Whole numbers beyond this are not exact in the text's own form.
    let whole = sample.value.fract() == 0.0 && sample.value.abs() < 9e15;
    NumberDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(if whole && start > 0 {
            number_data_point::Value::AsInt(sample.value as i64)
        } else {
            number_data_point::Value::AsDouble(sample.value)
        }),
        ..NumberDataPoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP comfyui_api_a_total What it is\n# TYPE comfyui_api_a_total \
                        counter\ncomfyui_api_a_total{kind=\"x \\\"y\\\" \\\\ }\",outcome=\"ok\"} \
                        7\ncomfyui_api_a_total{kind=\"z\",outcome=\"ok\"} 0\n\n# TYPE \
                        comfyui_api_b_bytes gauge\ncomfyui_api_b_bytes 1.5\n\n# TYPE \
                        comfyui_api_c_seconds \
                        histogram\ncomfyui_api_c_seconds_bucket{stage=\"s\",le=\"0.5\"} \
                        2\ncomfyui_api_c_seconds_bucket{stage=\"s\",le=\"1\"} \
                        2\ncomfyui_api_c_seconds_bucket{stage=\"s\",le=\"+Inf\"} \
                        5\ncomfyui_api_c_seconds_sum{stage=\"s\"} \
                        12.25\ncomfyui_api_c_seconds_count{stage=\"s\"} 5\n";

    #[test]
    fn what_is_rendered_is_read() {
        let encoder = Encoder::new(&[("service.name".to_owned(), "x".to_owned())]);
        let (body, points) = encoder.encode(TEXT);
        assert_eq!(points, 4);
        let request = ExportMetricsServiceRequest::decode(&*body).unwrap();
        let resource = &request.resource_metrics[0];
        let metrics = &resource.scope_metrics[0].metrics;
        let Some(metric::Data::Sum(sum)) = &metrics[0].data else {
            panic!("{:?}", metrics[0]);
        };
        assert!(sum.is_monotonic && metrics[0].description == "What it is");
        let labels = &sum.data_points[0].attributes[0];
        let value = labels.value.as_ref().unwrap().value.as_ref().unwrap();
        assert_eq!(
            *value,
            any_value::Value::StringValue("x \"y\" \\ }".to_owned())
        );
        assert_eq!(
            sum.data_points[0].value,
            Some(number_data_point::Value::AsInt(7))
        );
        assert_eq!(
            (metrics[1].unit.as_str(), metrics[2].unit.as_str()),
            ("By", "s")
        );
        let Some(metric::Data::Histogram(histogram)) = &metrics[2].data else {
            panic!("{:?}", metrics[2]);
        };
        let point = &histogram.data_points[0];
        assert_eq!(point.bucket_counts, [2, 0, 3]);
        assert_eq!(point.explicit_bounds, [0.5, 1.0]);
        assert_eq!((point.count, point.sum), (5, Some(12.25)));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_no_complaint() {
        assert_eq!(rejected(b"<html>nonsense</html>"), 0);
        assert_eq!(rejected(b""), 0);
    }
}
