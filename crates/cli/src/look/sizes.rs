//! Live sizes and values from the command line.

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use etwgpu_graph::{Dims, Graph, Value, ValueId};
use etwgpu_kernels::Live;
use etwgpu_kernels::live::{Dirty, Journal, propagate};
use etwgpu_runtime::Model;

use super::target::Sizes;

/// The operator that reads an integer from an input's elements.
const SELECT: &str = "et_vk.select_as_symint.default";

/// The input that an argument is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The next one, or the only one.
    Unnamed,
    /// The first one, or the only one that fits.
    Any,
    /// By position.
    At(usize),
}

impl Input {
    /// Cuts `input=`, `input3=` or `3=` off the front.
    fn split(text: &str) -> Result<(Self, &str), String> {
        let Some((name, rest)) = text.split_once('=') else { return Ok((Self::Unnamed, text)) };
        let number = name.strip_prefix("input").unwrap_or(name);
        if number.is_empty() && !name.is_empty() {
            return Ok((Self::Any, rest));
        }
        let wrong = |_| format!("`{name}` names no input; expected input, input0, input1, …");
        number.parse().map(|at| (Self::At(at), rest)).map_err(wrong)
    }
}

/// Live sizes of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeArg {
    /// Which one.
    pub input: Input,
    /// Sizes; none leaves the input at its bound.
    pub dims: Option<Dims>,
}

impl FromStr for ShapeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (input, sizes) = Input::split(text)?;
        let dims = match sizes {
            "_" => None,
            "scalar" => Some(Dims::new()),
            sizes => {
                let mut dims = Dims::new();
                for size in sizes.split('x') {
                    let size =
                        size.parse().map_err(|_| format!("`{sizes}` is no shape; expected one like 1x5"))?;
                    dims.try_push(size)
                        .map_err(|_| format!("`{sizes}` has more than {} sizes", dims.capacity()))?;
                }
                Some(dims)
            }
        };
        Ok(Self { input, dims })
    }
}

/// Elements of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueArg {
    /// Which one.
    pub input: Input,
    /// Elements; a single one stands for all.
    pub elements: Vec<i64>,
}

impl FromStr for ValueArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (input, elements) = Input::split(text)?;
        let parse = |e: &str| e.trim().parse().map_err(|_| format!("`{e}` is no integer"));
        Ok(Self { input, elements: elements.split(',').map(parse).collect::<Result<_, _>>()? })
    }
}

/// Sizes and integers of a run whose inputs are as asked.
pub(crate) fn live(model: &Model, sizes: &Sizes) -> Result<Live> {
    let graph = &model.graph;
    let mut live = model.bound.clone();
    let mut next = 0;
    for shape in &sizes.shapes {
        let position = match shape.input {
            Input::Unnamed => next,
            Input::Any => 0,
            Input::At(at) => at,
        };
        next = position + 1;
        if let Some(dims) = &shape.dims {
            set_dims(graph, &mut live, position, dims)?;
        }
    }
    for value in &sizes.values {
        let position = match value.input {
            Input::At(at) => at,
            Input::Any | Input::Unnamed => only_integer_input(graph)?,
        };
        set_value(graph, &mut live, position, &value.elements)?;
    }
    propagate(graph, &mut live, &Dirty::all(graph), &mut Journal::default())?;
    Ok(live)
}

fn input(graph: &Graph, position: usize) -> Result<ValueId> {
    let count = graph.inputs.len();
    graph
        .inputs
        .get(position)
        .copied()
        .with_context(|| format!("no input {position}, the delegate has {count}"))
}

fn set_dims(graph: &Graph, live: &mut Live, position: usize, dims: &Dims) -> Result<()> {
    let id = input(graph, position)?;
    let bound = &graph.tensor(id).with_context(|| format!("input {position} is no tensor"))?.dims;
    if bound.len() != dims.len() || dims.iter().zip(bound).any(|(size, max)| size > max) {
        bail!("input {position} cannot have sizes {:?}, its bound is {:?}", &dims[..], &bound[..]);
    }
    live.dims[id.index()].clone_from(dims);
    Ok(())
}

fn set_value(graph: &Graph, live: &mut Live, position: usize, elements: &[i64]) -> Result<()> {
    let id = input(graph, position)?;
    if !is_integer_input(graph, id) {
        bail!("the plan does not depend on the value of input {position}");
    }
    if *graph.value(id) == Value::SymInt {
        let &[value] = elements else { bail!("input {position} is one integer") };
        live.ints[id.index()] = i32::try_from(value).context("it does not fit in 32 bits")?.into();
        return Ok(());
    }
    let count = live.dims[id.index()].iter().map(|&d| d as usize).product::<usize>();
    let elements = match elements {
        // One element is enough to fill an input of any size; what reads it looks at few of them.
        [all] => vec![*all; count.min(1 << 16)],
        elements if elements.len() == count => elements.to_vec(),
        elements => bail!("input {position} has {count} elements, not {}", elements.len()),
    };
    live.host.insert(id, elements);
    Ok(())
}

/// Whether integers of the plan come from this input.
pub(super) fn is_integer_input(graph: &Graph, id: ValueId) -> bool {
    let reads = |node: &etwgpu_graph::Node| node.op == SELECT && node.args.first() == Some(&id);
    *graph.value(id) == Value::SymInt || graph.nodes.iter().any(reads)
}

fn only_integer_input(graph: &Graph) -> Result<usize> {
    let mut positions = (0..graph.inputs.len()).filter(|&at| is_integer_input(graph, graph.inputs[at]));
    let first = positions.next().context("the plan does not depend on the value of any input")?;
    match positions.next() {
        None => Ok(first),
        Some(second) => {
            bail!("integers are read from the inputs {first} and {second}; name one, as in input{first}=7")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_values_are_read() {
        let shape = |text: &str| text.parse::<ShapeArg>().map(|s| (s.input, s.dims.map(|d| d.to_vec())));
        assert_eq!(shape("1x5"), Ok((Input::Unnamed, Some(vec![1, 5]))));
        assert_eq!(shape("input=7"), Ok((Input::Any, Some(vec![7]))));
        assert_eq!(shape("input2=scalar"), Ok((Input::At(2), Some(vec![]))));
        assert_eq!(shape("1=_"), Ok((Input::At(1), None)));
        for wrong in ["", "x", "1x", "-1", "5000000000", "tokens=1", "=1", "1x1x1x1x1x1x1x1x1"] {
            assert!(shape(wrong).is_err(), "{wrong}");
        }
        let value = |text: &str| text.parse::<ValueArg>().map(|v| (v.input, v.elements));
        assert_eq!(value("7"), Ok((Input::Unnamed, vec![7])));
        assert_eq!(value("input1=-7, 8"), Ok((Input::At(1), vec![-7, 8])));
        assert!(value("input1=").is_err() && value("1.5").is_err());
    }
}
