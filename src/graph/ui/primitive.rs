//! `PrimitiveNode`: writes its value into the widgets that it is linked to.

use serde_json::{Value, json};

use super::model::{End, Role, Workflow};
use super::names::Names;
use super::promote;
use crate::graph::catalogue::{InputDefinition, Round};

/// Writes the values of a graph's primitives.
pub fn write(workflow: &mut Workflow<'_>, place: usize, names: &Names) {
    let graph = &workflow.graphs[place];
    if !graph
        .nodes
        .iter()
        .any(|node| matches!(node.role, Role::Primitive))
    {
        return;
    }
    let mut links: Vec<Vec<usize>> = vec![Vec::new(); graph.nodes.len()];
    for (link, about) in graph.links.iter().enumerate() {
        if let End::Node(origin) = about.origin
            && matches!(graph.nodes[origin].role, Role::Primitive)
        {
            links[origin].push(link);
        }
    }
    for (node, mut links) in links.into_iter().enumerate() {
        let graph = &workflow.graphs[place];
        links.sort_by_key(|link| graph.links[*link].id.parse::<u64>().unwrap_or(u64::MAX));
        write_one(workflow, place, node, &links, names);
    }
}

fn write_one(
    workflow: &mut Workflow<'_>,
    place: usize,
    primitive: usize,
    links: &[usize],
    names: &Names,
) {
    let mut targets = Vec::new();
    for link in links {
        let link = &workflow.graphs[place].links[*link];
        if let End::Node(target) = link.target
            && let Some(widget) = promote::widget_at(workflow, place, target, link.target_slot)
        {
            targets.push((target, link.target_slot, widget));
        }
    }
    let Some((target, slot, first)) = targets.first().copied() else {
        return;
    };
    let raw = workflow.graphs[place].nodes[primitive].raw;
    let set = workflow.graphs[place].nodes[primitive]
        .host_values
        .get(&0)
        .cloned();
    let saved = set.or_else(|| raw.list("widgets_values").first().cloned());
    let Some(mut value) = saved.or_else(|| promote::value(workflow, place, target, slot)) else {
        return;
    };
    if raw.property("Run widget replace on values") == Some(&Value::Bool(true))
        && let Value::String(text) = &value
    {
        value = Value::String(names.replace(workflow, text));
    }
    let inputs: Vec<&InputDefinition> = targets
        .iter()
        .filter_map(|(_, _, widget)| input(workflow, *widget))
        .collect();
    if input(workflow, first).is_some() {
        value = limited(value, &inputs);
    }
    for (target, slot, _) in targets {
        let node = &mut workflow.graphs[place].nodes[target];
        if matches!(node.role, Role::Instance(_)) {
            continue;
        }
        if let Some(widget) = node.inputs.get(slot).and_then(|socket| socket.widget) {
            node.widgets[widget].value = Some(value.clone());
        }
    }
}

fn input<'a>(
    workflow: &Workflow<'a>,
    (graph, node, widget): (usize, usize, usize),
) -> Option<&'a InputDefinition> {
    workflow.graphs[graph].nodes[node].widgets[widget].input
}

/// Within the common range of the targets, rounded as they do.
fn limited(value: Value, inputs: &[&InputDefinition]) -> Value {
    let Some(first) = inputs.first() else {
        return value;
    };
    // JavaScript counts with null as 0.
    let value = match (first.widget_kind(), value) {
        ("INT" | "FLOAT", Value::Null) => json!(0),
        (_, value) => value,
    };
    match first.widget_kind() {
        "INT" => match whole(&value) {
            Some(number) => limited_whole(number, inputs).unwrap_or(value),
            None => value,
        },
        "FLOAT" => match value.as_f64() {
            Some(number) => json!(limited_fraction(number, inputs)),
            None => value,
        },
        _ => value,
    }
}

fn whole(value: &Value) -> Option<i128> {
    if let Some(number) = value.as_i64() {
        return Some(number.into());
    }
    if let Some(number) = value.as_u64() {
        return Some(number.into());
    }
    value
        .as_f64()
        .filter(|float| float.abs() < 1e30)
        .map(|float| float.round() as i128)
}

fn limited_whole(number: i128, inputs: &[&InputDefinition]) -> Option<Value> {
    let of = |value: &Option<Value>| value.as_ref().and_then(whole);
    let first = inputs.first()?;
    let (mut min, mut max, mut step) =
        (of(&first.min), of(&first.max), of(&first.step).unwrap_or(1));
    for input in inputs
        .iter()
        .skip(1)
        .filter(|input| input.widget_kind() == "INT")
    {
        let (low, high) = (larger(min, of(&input.min)), smaller(max, of(&input.max)));
        if low.zip(high).is_some_and(|(low, high)| low > high) || input.round != first.round {
            continue;
        }
        (min, max) = (low, high);
        step = common_multiple(step, of(&input.step).unwrap_or(1));
    }
    let mut number = number;
    if let Some(min) = min {
        number = number.max(min);
    }
    if let Some(max) = max {
        number = number.min(max);
    }
    if step > 1 {
        let from = min.unwrap_or(0);
        let shift = from % step;
        let away = number.checked_sub(shift)?;
        // Halves go up, as JavaScript rounds.
        number = away
            .checked_add(step / 2)?
            .div_euclid(step)
            .checked_mul(step)?
            .checked_add(shift)?;
    }
    let exact = i64::try_from(number).map(Value::from);
    Some(
        exact
            .or_else(|_| u64::try_from(number).map(Value::from))
            .unwrap_or_else(|_| json!(number as f64)),
    )
}

fn common_multiple(one: i128, other: i128) -> i128 {
    let (one, other) = (one.max(1), other.max(1));
    let (mut a, mut b) = (one, other);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    (one / a).checked_mul(other).unwrap_or(one)
}

fn limited_fraction(number: f64, inputs: &[&InputDefinition]) -> f64 {
    let of = |value: &Option<Value>| value.as_ref().and_then(Value::as_f64);
    let Some(first) = inputs.first() else {
        return number;
    };
    let (mut min, mut max) = (of(&first.min), of(&first.max));
    for input in inputs
        .iter()
        .skip(1)
        .filter(|input| input.widget_kind() == "FLOAT")
    {
        let (low, high) = (larger(min, of(&input.min)), smaller(max, of(&input.max)));
        if low.zip(high).is_some_and(|(low, high)| low > high) || input.round != first.round {
            continue;
        }
        (min, max) = (low, high);
    }
    let clamped = |number: f64| {
        let number = min.map_or(number, |min| number.max(min));
        max.map_or(number, |max| number.min(max))
    };
    let decimals = |step: f64| (-step.log10().floor()).clamp(0.0, 17.0) as usize;
    let by_step = of(&first.step).filter(|step| *step > 0.0).unwrap_or(0.5);
    let number = clamped(number);
    let rounded = match first.round {
        Round::Never => return number,
        Round::To(round) => fixed((number / round).round() * round, decimals(round)),
        Round::ByStep => fixed(number, decimals(by_step)),
    };
    clamped(rounded)
}

fn fixed(number: f64, decimals: usize) -> f64 {
    let by = 10_f64.powi(i32::try_from(decimals).unwrap_or(0));
    let exact = (number * by).round() / by;
    if exact.is_finite() { exact } else { number }
}

fn larger<T: PartialOrd>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one >= other { one } else { other }),
        (one, other) => one.or(other),
    }
}

fn smaller<T: PartialOrd>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one <= other { one } else { other }),
        (one, other) => one.or(other),
    }
}
