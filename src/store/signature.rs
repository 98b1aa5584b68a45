//! Signatures: addresses of assets that need no key, and cursors that nobody else can make.

use super::Store;

/// Hexadecimal digits of a signature in an address.
const DIGITS: usize = 48;

impl Store {
    fn sign(&self, what: &str) -> String {
        let mut text = blake3::keyed_hash(&self.inner.secret, what.as_bytes())
            .to_hex()
            .to_string();
        text.truncate(DIGITS);
        text
    }

    /// The signature of an asset's address that is good until then (seconds since 1970).
    pub fn sign_asset(&self, id: &str, until: i64) -> String {
        self.sign(&format!("asset|{id}|{until}"))
    }

    /// Whether a signature is ours and not too late.
    pub fn signature_is_good(&self, id: &str, until: i64, signature: &str) -> bool {
        let mine = self.sign_asset(id, until);
        let same: bool =
            subtle::ConstantTimeEq::ct_eq(mine.as_bytes(), signature.as_bytes()).into();
        same && until.saturating_mul(1000) > super::now_ms()
    }

    /// The signature of an announced upload.
    pub(super) fn sign_upload(&self, ticket: &str) -> String {
        self.sign(&format!("upload|{ticket}"))
    }

    /// Whether we have announced an upload.
    pub(super) fn is_upload_signature(&self, ticket: &str, signature: &str) -> bool {
        let mine = self.sign_upload(ticket);
        subtle::ConstantTimeEq::ct_eq(mine.as_bytes(), signature.as_bytes()).into()
    }

    /// An opaque place in a list.
    pub fn cursor(&self, seq: i64) -> String {
        format!("{seq:x}-{}", &self.sign(&format!("cursor|{seq}"))[..16])
    }

    /// The place again, if the cursor is ours.
    pub fn place(&self, cursor: &str) -> Option<i64> {
        let (seq, _) = cursor.split_once('-')?;
        let seq = i64::from_str_radix(seq, 16).ok()?;
        let same: bool =
            subtle::ConstantTimeEq::ct_eq(self.cursor(seq).as_bytes(), cursor.as_bytes()).into();
        same.then_some(seq)
    }
}
