//! Plain data as it stands in logs and on wires: postcard, read to its last byte. What is left over is not
//! ignored: it is what a newer program has added, and whoever left it out would do something else with the
//! same bytes.

use serde::Deserialize;

/// # Errors
/// A sentence, when the bytes are not one value, and no more.
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("it has {} bytes too many", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_over_is_not_ignored() {
        let bytes = postcard::to_stdvec(&(7_u64, 300_u64)).unwrap();
        assert_eq!(read::<(u64, u64)>(&bytes), Ok((7, 300)));
        assert_eq!(read::<u64>(&bytes), Err("it has 2 bytes too many".into()));
        assert!(read::<(u64, u64)>(&bytes[..2]).is_err());
    }
}
