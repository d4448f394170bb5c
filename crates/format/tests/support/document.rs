//! `docs/format.md` as data: the tables under its headings. The rule: a table that is missing or has a row
//! of another shape is a failed test, never an empty loop.
#![allow(dead_code, reason = "each test that includes this file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The page.
pub struct Document {
    text: String,
}

/// A row of a layout: where a field stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub offset: usize,
    /// `None` for the rest of the structure.
    pub len: Option<usize>,
}

impl Document {
    pub fn read() -> Document {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format.md");
        Document { text: fs::read_to_string(path).unwrap() }
    }

    /// What stands under the heading with this text, up to the next heading of any level.
    pub fn section(&self, heading: &str) -> &str {
        let is_heading = |line: &str| line.trim_start_matches('#').trim() == heading && line.starts_with('#');
        let start = self.text.split_inclusive('\n').scan(0, |at, line| {
            *at += line.len();
            Some((*at, line))
        });
        let found: Vec<usize> = start.filter(|(_, line)| is_heading(line)).map(|(end, _)| end).collect();
        assert_eq!(found.len(), 1, "the page has one heading `{heading}`");
        let rest = &self.text[found[0]..];
        &rest[..rest.find("\n#").unwrap_or(rest.len())]
    }

    /// The rows of the first table under a heading, without its head; cells without back quotes.
    pub fn table(&self, heading: &str) -> Vec<Vec<String>> {
        let rows = self.section(heading).lines().skip_while(|line| !line.starts_with('|'));
        let rows: Vec<Vec<String>> = rows
            .take_while(|line| line.starts_with('|'))
            .skip(2)
            .map(|line| {
                let cells = line.trim_matches('|').split('|');
                cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
            })
            .collect();
        assert!(!rows.is_empty(), "`{heading}` has a table with rows");
        rows
    }

    /// The layout under a heading. Its fields follow one another without a hole.
    pub fn layout(&self, heading: &str) -> Vec<Field> {
        let mut end = Some(0);
        let rows = self.table(heading);
        let fields = rows.iter().map(|row| {
            let [offset, len, name, _] = row.as_slice() else { panic!("{heading}: {row:?}") };
            let offset: usize = offset.parse().unwrap_or_else(|_| panic!("{heading}: {row:?}"));
            assert_eq!(Some(offset), end, "{heading}: `{name}` begins where the field before it ends");
            let len = if len == "n" { None } else { Some(len.parse().unwrap()) };
            end = len.map(|len: usize| offset + len);
            Field { name: name.clone(), offset, len }
        });
        fields.collect()
    }

    /// The payload that the layout under a heading makes of these values: numbers, and bytes for a field
    /// that has the rest. Every field that is not reserved is given, in order.
    pub fn payload(&self, heading: &str, numbers: &[(&str, u64)], rest: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut given = numbers.iter();
        for Field { name, offset, len } in self.layout(heading) {
            assert_eq!(bytes.len(), offset);
            match len {
                Some(len) if name == "reserved" => bytes.resize(offset + len, 0),
                Some(len) => {
                    let (given, number) = given.next().unwrap_or_else(|| panic!("{heading}: {name}"));
                    assert_eq!(*given, name, "{heading}");
                    let number = number.to_le_bytes();
                    assert!(number[len..].iter().all(|&byte| byte == 0), "{heading}: {name} has {len} bytes");
                    bytes.extend_from_slice(&number[..len]);
                }
                None => bytes.extend_from_slice(rest),
            }
        }
        assert!(given.next().is_none(), "{heading} has fewer fields");
        bytes
    }

    /// The bytes that the first fenced block under a heading shows in hexadecimal.
    pub fn hex(&self, heading: &str) -> Vec<u8> {
        let block = self.section(heading).split("```").nth(1).expect("the section has a fenced block");
        let bytes = block.split_ascii_whitespace();
        bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }
}

/// The bytes of each field of a layout, but for the reserved ones, which are zeros.
pub fn fields_of(layout: &[Field], bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut fields = BTreeMap::new();
    let last = layout.last().unwrap();
    assert!(last.len.is_none_or(|len| last.offset + len == bytes.len()), "the layout covers all bytes");
    for Field { name, offset, len } in layout {
        let end = len.map_or(bytes.len(), |len| offset + len);
        let value = &bytes[*offset..end];
        if name == "reserved" {
            assert!(value.iter().all(|&byte| byte == 0), "reserved bytes at {offset} are zeros");
        } else {
            assert!(fields.insert(name.clone(), value.to_vec()).is_none(), "{name} stands once");
        }
    }
    fields
}

/// Compares the fields that a layout finds in encoded bytes with those that were encoded, one for one.
pub fn assert_fields(heading: &str, bytes: &[u8], expected: &[(&str, &[u8])]) {
    let found = fields_of(&Document::read().layout(heading), bytes);
    let expected: BTreeMap<String, Vec<u8>> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    assert_eq!(found, expected, "{heading}");
}

/// CRC-32 bit by bit, as the page describes it.
pub fn crc32_by_the_page(seed: u32, bytes: &[u8]) -> u32 {
    let polynomial = 0x04C1_1DB7_u32.reverse_bits();
    let state = bytes.iter().fold(!seed, |state, &byte| {
        (0..8).fold(state ^ u32::from(byte), |state, _| (state >> 1) ^ (polynomial * (state & 1)))
    });
    !state
}
