//! Parquet files as the hub has them, written here, and what is left of them when they are damaged.

use edgewise_tasks::{Options, Plan, Table, Task};
use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{fs, path::Path, sync::Arc};

/// MMLU's columns, and those of ARC in one struct.
const SCHEMA: &str = "message schema {
    optional binary question (UTF8);
    optional binary subject (UTF8);
    optional group choices (LIST) { repeated group list { optional binary element (UTF8); } }
    optional int64 answer;
    optional group pair {
        optional group text (LIST) { repeated group list { optional binary element (UTF8); } }
    }
}";

fn rows() -> Vec<Value> {
    (0..5)
        .map(|n: i64| {
            let choices: Vec<String> = ["a", "é", "", "d"].iter().map(|c| format!("{c}{n}")).collect();
            json!({
                "question": format!("question {n}?"), "subject": if n == 3 { Value::Null } else { json!("sums") },
                "choices": choices, "answer": n % 4, "pair": { "text": [format!("x{n}"), "y"] },
            })
        })
        .collect()
}

/// A file in row groups of three rows.
fn write(path: &Path, compression: Compression) {
    let properties = WriterProperties::builder().set_compression(compression).build();
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    let rows = rows();
    for rows in rows.chunks(3) {
        let mut group = writer.next_row_group().unwrap();
        let bytes = |value: &Value| ByteArray::from(value.as_str().unwrap());
        for column in ["question", "subject", "choices", "answer", "text"] {
            let mut to = group.next_column().unwrap().unwrap();
            match column {
                "answer" => {
                    let values: Vec<i64> = rows.iter().map(|r| r[column].as_i64().unwrap()).collect();
                    to.typed::<Int64Type>().write_batch(&values, Some(&vec![1; rows.len()]), None).unwrap();
                }
                "choices" | "text" => {
                    let lists = rows.iter().map(|r| if column == "text" { &r["pair"][column] } else { &r[column] });
                    let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
                    for list in lists {
                        for (at, value) in list.as_array().unwrap().iter().enumerate() {
                            values.push(bytes(value));
                            definition.push(if column == "text" { 4 } else { 3 });
                            repetition.push(i16::from(at > 0));
                        }
                    }
                    to.typed::<ByteArrayType>().write_batch(&values, Some(&definition), Some(&repetition)).unwrap();
                }
                _ => {
                    let values: Vec<ByteArray> =
                        rows.iter().filter(|r| !r[column].is_null()).map(|r| bytes(&r[column])).collect();
                    let definition: Vec<i16> = rows.iter().map(|r| i16::from(!r[column].is_null())).collect();
                    to.typed::<ByteArrayType>().write_batch(&values, Some(&definition), None).unwrap();
                }
            }
            to.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn parquet_and_json_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("rows.jsonl");
    fs::write(&lines, rows().iter().map(|row| format!("{row}\n")).collect::<Vec<_>>().concat()).unwrap();
    let expected = Plan::new(Task::Mmlu, &Table::open(&lines).unwrap(), None, Options { shots: Some(0), ..Options::default() });
    let expected = format!("{:?}", expected.unwrap().questions);
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())] {
        // The name says nothing; the first bytes do.
        let path = folder.path().join("rows.data");
        write(&path, compression);
        let table = Table::open(&path).unwrap();
        assert_eq!(table.count(), 5);
        let found = Plan::new(Task::Mmlu, &table, None, Options { shots: Some(0), ..Options::default() }).unwrap();
        assert_eq!(format!("{:?}", found.questions), expected);
    }
}

/// Two of the fixtures once more, written by pyarrow, which is what the hub's files are written with: snappy and zstd.
#[test]
fn files_of_pyarrow_are_read() {
    for (task, shots) in [(Task::Mmlu, 1), (Task::ArcEasy, 0)] {
        let questions = |extension: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{task}.{extension}"));
            let plan = Plan::new(task, &Table::open(&path).unwrap(), None, Options { shots: Some(shots), ..Options::default() });
            format!("{:?}", plan.unwrap().questions)
        };
        assert_eq!(questions("parquet"), questions("jsonl"));
    }
}

#[test]
fn a_file_without_its_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.parquet");
    write(&path, Compression::SNAPPY);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let error = Table::open(&path).unwrap_err();
    assert!(error.to_string().contains("cut.parquet` is no Parquet file that can be read: "), "{error}");
    assert!(error.hint().unwrap().contains("fetched again"));
    fs::write(&path, "PAR1").unwrap();
    assert!(Table::open(&path).unwrap_err().to_string().contains("cut.parquet` is"));
}

/// A page of 2 GiB in a file of 2 KB: the memory for it is never set aside.
#[test]
fn a_page_that_asks_for_too_much_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.parquet");
    write(&path, Compression::SNAPPY);
    let mut bytes = fs::read(&path).unwrap();
    let reader = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
    let (start, _) = reader.metadata().row_group(1).column(2).byte_range();
    // The first fields of a header: its type, then the size unpacked and the size packed, here i32::MAX and 0.
    let header = [0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 0, 0];
    bytes[start as usize..][..header.len()].copy_from_slice(&header);
    fs::write(&path, &bytes).unwrap();
    let error = Table::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("large.parquet` is no Parquet file that can be read") && error.contains("one of them 2047"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Every answer is rows or an error; whatever the library thinks of a file, the program goes on.
    #[test]
    fn no_damage_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in prop::option::of(any::<prop::sample::Index>())) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        write(&path, Compression::SNAPPY);
        let mut bytes = fs::read(&path).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            let at = cut.index(bytes.len());
            bytes.remove(at);
        }
        fs::write(&path, &bytes).unwrap();
        if let Ok(table) = Table::open(&path) {
            let _ = Plan::new(Task::Mmlu, &table, None, Options::default());
        }
    }
}
