//! Keys of every kind that JSON web tokens are signed with.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    rsa,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding,
    },
};
use serde_json::{Value, json};

/// A key pair for one algorithm.
pub(super) enum SigningKey {
    Ecdsa(&'static str, EcdsaKeyPair),
    Rsa(&'static str, Box<rsa::KeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    pub(super) const ALGORITHMS: [&str; 9] =
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

    pub(super) fn new(algorithm: &'static str) -> Self {
        let random = SystemRandom::new();
        let ecdsa = |signing: &'static EcdsaSigningAlgorithm| {
            let key = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
            Self::Ecdsa(
                algorithm,
                EcdsaKeyPair::from_pkcs8(signing, key.as_ref(), &random).unwrap(),
            )
        };
        match algorithm {
            "ES256" => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" => {
                let key = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Self::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
            }
            // Ring makes no RSA keys: this one was made for the tests, and opens nothing.
            _ => {
                let text = include_str!("rsa.der.b64").replace('\n', "");
                let key = rsa::KeyPair::from_der(&STANDARD.decode(text).unwrap()).unwrap();
                Self::Rsa(algorithm, Box::new(key))
            }
        }
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Ecdsa(algorithm, _) | Self::Rsa(algorithm, _) => algorithm,
            Self::Ed25519(_) => "EdDSA",
        }
    }

    /// What a key set says of it, but for its name.
    pub(super) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ecdsa(algorithm, key) => {
                let (x, y) =
                    key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
                let curve = if *algorithm == "ES256" { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
            }
            Self::Rsa(_, key) => {
                let public: rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "n": text(&public.n), "e": text(&public.e)})
            }
            Self::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref())})
            }
        }
    }

    /// The bytes that everybody knows of it.
    pub(super) fn public(&self) -> Vec<u8> {
        match self {
            Self::Ecdsa(_, key) => key.public_key().as_ref().to_vec(),
            Self::Rsa(_, key) => key.public().as_ref().to_vec(),
            Self::Ed25519(key) => key.public_key().as_ref().to_vec(),
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ecdsa(_, key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(algorithm, key) => {
                let padding: &dyn RsaEncoding = match *algorithm {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}
