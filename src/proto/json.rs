//! Messages as JSON, by their descriptors (`prost-reflect`), so that there is nothing to be kept in
//! step.

use std::{io, sync::LazyLock};

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{
    Serializer,
    ser::{CompactFormatter, Formatter},
};

/// Doubles hold every whole number up to here.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// All messages and services of the contract.
pub fn pool() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(super::DESCRIPTORS).expect("the build has made them")
    });
    &POOL
}

/// A message of this name, such as `Job`, in a form that knows its fields.
pub fn dynamic<T: prost::Message>(name: &str, message: &T) -> Option<DynamicMessage> {
    let descriptor = pool().get_message_by_name(&format!("userpilot_gateway.v1.{name}"))?;
    DynamicMessage::decode(descriptor, &*message.encode_to_vec()).ok()
}

/// As JSON on one line: names as in the contract, numbers as numbers, and what is not set as it is
/// by default.
pub fn json(message: &DynamicMessage) -> Result<Vec<u8>, serde_json::Error> {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(false);
    let mut json = Serializer::with_formatter(Vec::new(), WholeNumbers);
    message.serialize_with_options(&mut json, &options)?;
    Ok(json.into_inner())
}

/// Writes 3 where a property holds 3, as it was sent, and not 3.0.
struct WholeNumbers;

impl Formatter for WholeNumbers {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let is_negative_zero = value == 0.0 && value.is_sign_negative();
        if value.fract() == 0.0 && value.abs() <= EXACT_MAX && !is_negative_zero {
            return write!(writer, "{value:.0}");
        }
        CompactFormatter.write_f64(writer, value)
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{Struct, Value, value::Kind};

    use super::*;
    use crate::proto::{DeadLetter, Job, JobState, timestamp};

    fn value<T: prost::Message>(name: &str, message: &T) -> serde_json::Value {
        serde_json::from_slice(&json(&dynamic(name, message).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn json_has_numbers_words_times_and_what_is_not_set() {
        let job = Job {
            rows: 10_000,
            state: JobState::Delivered.into(),
            claimed_at: Some(timestamp(1_500_000)),
            occupancy: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            ..Job::default()
        };
        let json = value("Job", &job);
        assert_eq!(json["rows"], 10_000);
        assert_eq!(json["state"], "JOB_STATE_DELIVERED");
        assert_eq!(json["claimed_at"], "1970-01-01T00:00:01.500Z");
        assert_eq!(json["occupancy"], "1.500s");
        assert_eq!((&json["last_error"], &json["updates"]), (&"".into(), &0.into()));
        assert_eq!(json["events"], serde_json::json!([]));
        assert!(json["settled_at"].is_null());
    }

    #[test]
    fn values_read_as_they_were_sent() {
        for (kind, expected) in [
            (Kind::NullValue(0), "null"),
            (Kind::BoolValue(true), "true"),
            (Kind::NumberValue(3.0), "3"),
            (Kind::NumberValue(-0.5), "-0.5"),
            (Kind::NumberValue(-9_007_199_254_740_992.0), "-9007199254740992"),
            (Kind::NumberValue(1e300), "1e+300"),
            (Kind::StringValue("«ü»".into()), "\"«ü»\""),
        ] {
            let fields = [("a".to_owned(), Value { kind: Some(kind) })].into();
            let letter = DeadLetter { metadata: Some(Struct { fields }), ..DeadLetter::default() };
            let json = json(&dynamic("DeadLetter", &letter).unwrap()).unwrap();
            let json = String::from_utf8(json).unwrap();
            assert!(json.contains(&format!("\"metadata\":{{\"a\":{expected}}}")), "{json}");
        }
    }
}
