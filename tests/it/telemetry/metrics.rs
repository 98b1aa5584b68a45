//! Metrics by OTLP: the same as `/metrics` says.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value as Number};

use super::{exposition, stage};
use crate::delivered::picture;
use crate::support::collector::{Collector, METRICS, TRACES, attributes};

#[tokio::test(flavor = "multi_thread")]
async fn they_are_those_of_the_recorder() {
    let collector = Collector::start().await;
    let mut product = stage()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_TRACES_EXPORTER", "none")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "600000")
        .start()
        .await;
    for n in 0..3 {
        product.run(&format!("p{n}"), &picture(1)).await;
    }
    let text = exposition(&product).await;
    assert_eq!(product.stop().await, Some(0));
    assert!(collector.receiver.at(TRACES).is_empty());
    assert_eq!(collector.receiver.at(METRICS).len(), 1, "one at the end");
    let metrics = collector.metrics().await;
    let families: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    for (name, kind) in &families {
        let metric = metrics.get(*name).unwrap_or_else(|| panic!("no {name}"));
        let same = matches!(
            (*kind, metric.data.as_ref().unwrap()),
            ("counter", Data::Sum(_))
                | ("gauge", Data::Gauge(_))
                | ("histogram", Data::Histogram(_))
        );
        assert!(same, "{name} is a {kind}: {metric:?}");
    }
    let Some(Data::Sum(sum)) = &metrics["comfyui_api_prompts_total"].data else {
        panic!("no sum");
    };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    let point = sum.data_points.iter().find(|point| {
        let labels = attributes(&point.attributes);
        labels["status"] == "succeeded" && labels["source"] == "http"
    });
    let point = point.unwrap();
    assert_eq!(point.value, Some(Number::AsInt(3)));
    assert!(point.start_time_unix_nano > 0 && point.time_unix_nano > point.start_time_unix_nano);
    let Some(Data::Histogram(histogram)) = &metrics["comfyui_api_stage_duration_seconds"].data
    else {
        panic!("no histogram");
    };
    assert_eq!(histogram.aggregation_temporality, 2);
    let point = histogram
        .data_points
        .iter()
        .find(|point| attributes(&point.attributes)["stage"] == "preprocess")
        .unwrap();
    assert_eq!(point.count, 3);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 3);
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert!(point.sum.unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_come_at_their_interval() {
    let collector = Collector::start().await;
    let _product = collector
        .stage(stage())
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "50")
        .start()
        .await;
    collector.receiver.wait(METRICS, 3).await;
}
