//! A whole directory in one input: names and contents, with long runs of zeros left out so that an input is
//! small and a mutation of its bytes hits something.
//!
//! A file is a length byte and a name, then runs: a 2-byte number of zeros, a 2-byte number of literal bytes,
//! and these. A run of no zeros and no bytes ends the file. Any bytes are some directory.

use std::collections::BTreeMap;

/// Names and contents of a directory's files.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The most bytes that all files of a directory have.
pub const TOTAL_MAX: usize = 192 << 10;
/// The most files.
const FILES_MAX: usize = 16;
/// So many zeros in a row are worth a run of their own.
const ZEROS_MIN: usize = 8;

/// The directory that these bytes are.
pub fn decode(mut bytes: &[u8]) -> Files {
    let mut files = Files::new();
    let mut room = TOTAL_MAX;
    while files.len() < FILES_MAX
        && let Some((&len, rest)) = bytes.split_first()
    {
        let name;
        (name, bytes) = rest.split_at(rest.len().min(usize::from(len)));
        let content;
        (content, bytes) = decode_file(bytes, room);
        room -= content.len();
        if let Ok(name) = std::str::from_utf8(name)
            && is_plain(name)
        {
            files.insert(name.to_owned(), content);
        }
    }
    files
}

/// The bytes that are this directory.
pub fn encode(files: &Files) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name.as_bytes());
        encode_file(content, &mut bytes);
    }
    bytes
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

fn decode_file(mut bytes: &[u8], room: usize) -> (Vec<u8>, &[u8]) {
    let mut content = Vec::new();
    while let Some((&[z0, z1, l0, l1], rest)) = bytes.split_first_chunk() {
        let (zeros, len) = (usize::from(u16::from_le_bytes([z0, z1])), u16::from_le_bytes([l0, l1]).into());
        let literal;
        (literal, bytes) = rest.split_at(rest.len().min(len));
        if zeros == 0 && len == 0 {
            return (content, bytes);
        }
        content.resize((content.len() + zeros).min(room), 0);
        content.extend_from_slice(&literal[..literal.len().min(room - content.len())]);
    }
    (content, &[])
}

fn encode_file(mut content: &[u8], out: &mut Vec<u8>) {
    const RUN_MAX: usize = u16::MAX as usize;
    while !content.is_empty() {
        let zeros = content.iter().take(RUN_MAX).take_while(|&&byte| byte == 0).count();
        content = &content[zeros..];
        let len = literal_len(content).min(RUN_MAX);
        out.extend_from_slice(&(zeros as u16).to_le_bytes());
        out.extend_from_slice(&(len as u16).to_le_bytes());
        out.extend_from_slice(&content[..len]);
        content = &content[len..];
    }
    out.extend_from_slice(&[0; 4]);
}

/// Bytes up to the next long run of zeros.
fn literal_len(content: &[u8]) -> usize {
    let mut zeros = 0;
    for (at, &byte) in content.iter().enumerate() {
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        if zeros == ZEROS_MIN {
            return at + 1 - ZEROS_MIN;
        }
    }
    content.len() - zeros
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::Random;

    #[test]
    fn a_directory_comes_back_as_it_was() {
        let mut random = Random(1);
        for _ in 0..300 {
            let mut files = Files::new();
            for number in 0..random.below(5) {
                let mut content = Vec::new();
                for _ in 0..random.below(6) {
                    content.resize(content.len() + random.below(9000), 0);
                    for _ in 0..random.below(50) {
                        content.push(random.bits() as u8);
                    }
                }
                content.truncate(TOTAL_MAX / 5);
                files.insert(format!("{number}.wal"), content);
            }
            assert!(decode(&encode(&files)) == files);
        }
    }

    #[test]
    fn any_bytes_are_a_bounded_directory() {
        let mut random = Random(2);
        for _ in 0..300 {
            let bytes: Vec<u8> = (0..random.below(400)).map(|_| random.bits() as u8).collect();
            let files = decode(&bytes);
            assert!(files.values().map(Vec::len).sum::<usize>() <= TOTAL_MAX);
            assert!(decode(&encode(&files)) == files);
        }
    }
}
