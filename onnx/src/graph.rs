//! A small writer of ONNX graphs: nodes are named after what they compute, constants are shared, weights go to a plan of
//! external data that is filled later. There are two data files, so that what many sub-networks share can be shared.

use crate::{
    kept::Kept,
    proto::{
        AttributeProto, NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
        attribute_proto,
        tensor_proto::{DataLocation, DataType},
        tensor_shape_proto::{self, dimension},
        type_proto,
    },
};
use prost::bytes::Bytes;
use std::collections::BTreeMap;

/// Tensors start at multiples of this in the data file, so that a runtime can map them.
pub(crate) const ALIGNMENT: u64 = 4096;
/// Tensors up to this size stay in the graph, in bytes.
const INLINE: u64 = 1024;

/// How a tensor of the artifact is cut out of the super-network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Elements of a vector.
    Vector { source: String, kept: Kept },
    /// Rows and columns of a matrix.
    Matrix { source: String, rows: Kept, columns: Kept, transposed: bool },
    /// Cosines of the rotary positions, of these pairs or of all.
    Cosines(Option<Vec<u32>>),
    /// Sines of the rotary positions.
    Sines(Option<Vec<u32>>),
}

/// A tensor that goes to the data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Which of the data files.
    pub(crate) file: usize,
    pub(crate) cut: Cut,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// A dimension of an input or output.
#[derive(Debug, Clone)]
pub(crate) enum Dim {
    Known(usize),
    Named(&'static str),
}

/// A graph under construction.
#[derive(Debug, Default)]
pub(crate) struct GraphBuilder {
    pub(crate) nodes: Vec<NodeProto>,
    pub(crate) initializers: Vec<TensorProto>,
    /// Tensors of the data files; those of one file in order.
    pub(crate) placed: Vec<Placed>,
    /// Small tensors that are filled in place: index of the initializer and how to cut it.
    pub(crate) inline: Vec<(usize, Cut)>,
    integers: BTreeMap<(Vec<i64>, bool), String>,
    data_files: [&'static str; 2],
    ends: [u64; 2],
}

/// Attributes that the decoder's operators need.
pub(crate) enum Attribute {
    Int(&'static str, i64),
    Ints(&'static str, Vec<i64>),
}

impl GraphBuilder {
    pub(crate) fn new(data_files: [&'static str; 2]) -> Self {
        Self { data_files, ..Self::default() }
    }

    /// The tensors of a data file, in order.
    pub(crate) fn in_file(&self, file: usize) -> Vec<&Placed> {
        self.placed.iter().filter(|placed| placed.file == file).collect()
    }

    /// Adds a node with one output, which carries `name`.
    pub(crate) fn node(&mut self, operator: &str, name: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&s| s.to_owned()).collect(),
            output: vec![name.to_owned()],
            name: Some(format!("{name}/{operator}")),
            op_type: Some(operator.to_owned()),
            attribute: attributes.into_iter().map(Attribute::into_proto).collect(),
            ..NodeProto::default()
        });
        name.to_owned()
    }

    /// A vector of integers; equal ones are one initializer.
    pub(crate) fn ints(&mut self, values: &[i64]) -> String {
        self.integer_constant(values, false)
    }

    /// A single integer of rank 0.
    pub(crate) fn int(&mut self, value: i64) -> String {
        self.integer_constant(&[value], true)
    }

    fn integer_constant(&mut self, values: &[i64], scalar: bool) -> String {
        if let Some(name) = self.integers.get(&(values.to_vec(), scalar)) {
            return name.clone();
        }
        let text = values.iter().map(i64::to_string).collect::<Vec<_>>().join("_");
        let name = format!("constant/{}{text}", if scalar { "scalar_" } else { "" });
        self.add_integers(&name, values, scalar);
        self.integers.insert((values.to_vec(), scalar), name.clone());
        name
    }

    /// An initializer of integers under a name of its own.
    pub(crate) fn add_integers(&mut self, name: &str, values: &[i64], scalar: bool) {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let dims = if scalar { vec![] } else { vec![values.len() as i64] };
        self.initializers.push(tensor(name, DataType::Int64, dims, Bytes::from(raw)));
    }

    /// A single-precision number of rank 0.
    pub(crate) fn float(&mut self, name: &str, value: f32) -> String {
        self.initializers.push(tensor(name, DataType::Float, vec![], Bytes::copy_from_slice(&value.to_le_bytes())));
        name.to_owned()
    }

    /// A tensor that is cut from the weights; large ones get a place in the first data file.
    pub(crate) fn weight(&mut self, name: &str, shape: &[usize], cut: Cut) -> String {
        self.weight_in(0, name, shape, cut)
    }

    /// As [`Self::weight`], in a data file of choice.
    pub(crate) fn weight_in(&mut self, file: usize, name: &str, shape: &[usize], cut: Cut) -> String {
        let dims = shape.iter().map(|&d| d as i64).collect();
        let bytes = shape.iter().product::<usize>() as u64 * 4;
        if bytes <= INLINE {
            self.inline.push((self.initializers.len(), cut));
            self.initializers.push(tensor(name, DataType::Float, dims, Bytes::new()));
            return name.to_owned();
        }
        let offset = self.ends[file].next_multiple_of(ALIGNMENT);
        self.ends[file] = offset + bytes;
        self.placed.push(Placed { file, cut, offset, bytes });
        let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
        self.initializers.push(TensorProto {
            external_data: vec![
                entry("location", self.data_files[file].to_owned()),
                entry("offset", offset.to_string()),
                entry("length", bytes.to_string()),
            ],
            data_location: Some(DataLocation::External as i32),
            raw_data: None,
            ..tensor(name, DataType::Float, dims, Bytes::new())
        });
        name.to_owned()
    }
}

impl Attribute {
    fn into_proto(self) -> AttributeProto {
        use attribute_proto::AttributeType;
        match self {
            Self::Int(name, value) => AttributeProto {
                name: Some(name.to_owned()),
                r#type: Some(AttributeType::Int as i32),
                i: Some(value),
                ..AttributeProto::default()
            },
            Self::Ints(name, values) => AttributeProto {
                name: Some(name.to_owned()),
                r#type: Some(AttributeType::Ints as i32),
                ints: values,
                ..AttributeProto::default()
            },
        }
    }
}

fn tensor(name: &str, element: DataType, dims: Vec<i64>, raw: Bytes) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(element as i32),
        dims,
        raw_data: Some(raw),
        ..TensorProto::default()
    }
}

/// Declares an input or output.
pub(crate) fn value(name: &str, element: DataType, dims: &[Dim]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|dim| tensor_shape_proto::Dimension {
            value: Some(match dim {
                Dim::Known(n) => dimension::Value::DimValue(*n as i64),
                Dim::Named(symbol) => dimension::Value::DimParam((*symbol).to_owned()),
            }),
            ..tensor_shape_proto::Dimension::default()
        })
        .collect();
    let tensor = type_proto::Tensor { elem_type: Some(element as i32), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
