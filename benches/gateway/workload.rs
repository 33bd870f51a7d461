//! What is sent: updates of about 200 bytes, written straight into the buffer from a template,
//! so that the load takes as little as it can of the cores that it shares with the gateway.

use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use bytes::BufMut;
use prost::Message;
use prost_types::{Struct, Value, value::Kind};
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstCodec;
use userpilot_gateway::{
    domain::{
        time::Timestamp,
        update::{AppId, Update},
    },
    door::{
        caller::Caller,
        properties::Properties,
        wire::{UpdateLimits, Wire},
    },
    proto::{UpdateUserRequest, UserUpdate},
};

/// Users of the measurements that do not say otherwise.
pub const USERS: u64 = 200_000;

/// The user of the `n`th update: every user once in a round, in an order without a pattern.
/// `users` must not be a multiple of the factor, which is a prime.
pub fn user_in_turn(n: u64, users: u64) -> u64 {
    (n % users * 7_919 + n / users) % users
}

/// A user at random, the same ones in every run (splitmix64).
pub fn random_user(state: &mut u64, users: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % users
}

/// One update to send. In a stream it has a tag.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    pub tag: Option<u64>,
    pub user: u64,
}

/// An encoded `UserUpdate`, in which the digits of the user's id are replaced.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    user_at: usize,
}

const USER_DIGITS: usize = 9;

impl Template {
    pub fn new() -> Self {
        let bytes = update("user-000000000").encode_to_vec();
        let user = b"user-000000000";
        let at = bytes.windows(user.len()).position(|window| window == user);
        let user_at = at.expect("the id is in the message") + user.len() - USER_DIGITS;
        Self { bytes, user_at }
    }

    /// How long an encoded update is.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn write(&self, message: Outgoing, buffer: &mut impl BufMut) {
        let mut digits = [b'0'; USER_DIGITS];
        let mut rest = message.user;
        for digit in digits.iter_mut().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        // `tag = 1; update = 2` in a stream, `update = 1` alone.
        let mut field = 1;
        if let Some(tag) = message.tag {
            prost::encoding::uint64::encode(1, &tag, buffer);
            field = 2;
        }
        let wire_type = prost::encoding::WireType::LengthDelimited;
        prost::encoding::encode_key(field, wire_type, buffer);
        prost::encoding::encode_varint(self.bytes.len() as u64, buffer);
        buffer.put_slice(&self.bytes[..self.user_at]);
        buffer.put_slice(&digits);
        buffer.put_slice(&self.bytes[self.user_at + USER_DIGITS..]);
    }

    /// The same update, as the gateway's writer gets it.
    pub fn update(&self, user: u64, app: AppId) -> Update {
        let mut bytes = Vec::new();
        self.write(Outgoing { tag: None, user }, &mut bytes);
        let request = UpdateUserRequest::decode(&*bytes).expect("a valid message");
        let wire = Wire {
            limits: UpdateLimits {
                user_id_bytes_max: 512,
                company_id_bytes_max: 512,
                properties_max: 1_000,
                property_name_bytes_max: 512,
                record_bytes_max: 65_536,
                occurred_at_ahead_max: Duration::ZERO,
            },
            properties: Properties::default(),
            express: BTreeSet::new(),
            held: BTreeMap::new(),
        };
        let now = Timestamp::default();
        let caller = Caller::anyone(BTreeMap::from([("app".to_owned(), app)]));
        wire.update(request.update, &caller, now, String::new).expect("a good update")
    }
}

fn update(user_id: &str) -> UserUpdate {
    let text = |text: &str| Kind::StringValue(text.to_owned());
    let fields = [
        ("city", text("Frankfurt am Main")),
        ("plan", text("professional")),
        ("seats", Kind::NumberValue(42.0)),
        ("trial", Kind::BoolValue(false)),
        ("last_seen_at", text("2026-11-23T18:06:01Z")),
        ("monthly_spend", Kind::NumberValue(1_249.5)),
    ];
    let fields = fields.into_iter().map(|(name, kind)| (name.into(), Value { kind: Some(kind) }));
    UserUpdate {
        user_id: user_id.to_owned(),
        company_id: Some("company-0042".to_owned()),
        metadata: Some(Struct { fields: fields.collect() }),
        ..UserUpdate::default()
    }
}

/// Sends [`Outgoing`]s, receives `Answer`s.
#[derive(Clone, Debug)]
pub struct TemplateCodec<Answer> {
    template: Arc<Template>,
    answer: PhantomData<Answer>,
}

impl<Answer> TemplateCodec<Answer> {
    pub fn new() -> Self {
        Self { template: Arc::new(Template::new()), answer: PhantomData }
    }
}

impl<Answer: Message + Default + Send + 'static> Codec for TemplateCodec<Answer> {
    type Encode = Outgoing;
    type Decode = Answer;
    type Encoder = TemplateEncoder;
    type Decoder = <ProstCodec<UserUpdate, Answer> as Codec>::Decoder;

    fn encoder(&mut self) -> TemplateEncoder {
        TemplateEncoder(self.template.clone())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<UserUpdate, Answer>::default().decoder()
    }
}

pub struct TemplateEncoder(Arc<Template>);

impl Encoder for TemplateEncoder {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, message: Outgoing, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.0.write(message, buffer);
        Ok(())
    }
}
