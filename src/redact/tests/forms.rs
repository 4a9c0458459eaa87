//! Registered values in the forms in which text holds them.

use super::*;
use base64::{Engine, engine::general_purpose};

const SECRETS: [&str; 7] = [
    "hunter2-long",
    "p\"a\\ss\nword/ä<&>",
    "correct horse battery",
    "k/+=&?#%3A:@",
    "pässwörter 🦀",
    "abcde",
    "~!*'();:@&=+$,/?#[]",
];

/// `secret` as text could hold it, each with a name.
fn forms_of(secret: &str) -> Vec<(String, String)> {
    let json = |text: &str| {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let percent = |kept: &str, upper: bool| {
        secret.bytes().fold(String::new(), |out, byte| {
            if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
                out + &char::from(byte).to_string()
            } else if upper {
                out + &format!("%{byte:02X}")
            } else {
                out + &format!("%{byte:02x}")
            }
        })
    };
    let ascii = json(secret).chars().fold(String::new(), |out, character| {
        if character.is_ascii() {
            return out + &character.to_string();
        }
        let mut units = [0; 2];
        character
            .encode_utf16(&mut units)
            .iter()
            .fold(out, |out, unit| out + &format!("\\u{unit:04x}"))
    });
    let mut forms = vec![
        ("itself".to_owned(), secret.to_owned()),
        ("JSON".to_owned(), json(secret)),
        ("JSON in JSON".to_owned(), json(&json(secret))),
        ("JSON, three times".to_owned(), json(&json(&json(secret)))),
        ("JSON in ASCII".to_owned(), ascii),
        ("URL".to_owned(), percent("-_.~", true)),
        ("URL, small".to_owned(), percent("-_.~", false)),
        ("URI component".to_owned(), percent("-_.~!*'()", true)),
        ("form".to_owned(), percent("-_.* ", true).replace(' ', "+")),
    ];
    for before in ["", "u", "u:", "usr", "user:"] {
        for after in ["", "x", ":y", "xyz"] {
            let bytes = format!("{before}{secret}{after}");
            forms.push((
                format!("base64 of {bytes}"),
                general_purpose::STANDARD.encode(&bytes),
            ));
            forms.push((
                format!("base64 for URLs of {bytes}"),
                general_purpose::URL_SAFE_NO_PAD.encode(&bytes),
            ));
        }
    }
    forms
}

#[test]
fn a_registered_value_is_found_in_every_form() {
    for secret in SECRETS {
        let rules = with_values(&[secret]);
        for (name, form) in forms_of(secret) {
            for text in [
                form.clone(),
                format!("<{form}>"),
                format!("a {form} b {form}, c"),
            ] {
                let redacted = message(&rules, &text);
                assert!(
                    !redacted.contains(&form),
                    "{secret:?} as {name} in {redacted}"
                );
                assert!(
                    redacted.contains("[REDACTED]"),
                    "{secret:?} as {name} in {redacted}"
                );
                // What is left of base64 must not give it away either: at most what stands before
                // and after it.
                let left = redacted.replace("[REDACTED]", "");
                if name.starts_with("base64") {
                    for form in forms_of(secret) {
                        let core = &form.1.as_bytes()[..form.1.len().min(12)];
                        assert!(
                            !left.as_bytes().windows(core.len()).any(|part| part == core),
                            "{name}: {left}"
                        );
                    }
                }
                assert_eq!(message(&rules, &redacted), redacted);
            }
        }
    }
}

#[test]
fn what_surrounds_a_registered_value_stays() {
    let rules = with_values(&["hunter2 long"]);
    for (text, redacted) in [
        ("a=hunter2%20long&b=1", "a=[REDACTED]&b=1"),
        ("a=hunter2+long&b=1", "a=[REDACTED]&b=1"),
        // "user:hunter2 long!"
        ("x dXNlcjpodW50ZXIyIGxvbmch y", "x dXNlcj[REDACTED]h y"),
        ("Hunter2 long hunter2  long", "Hunter2 long hunter2  long"),
    ] {
        assert_eq!(message(&rules, text), redacted);
    }
}

#[test]
fn many_values_and_hostile_ones_take_linear_time() {
    let many: Vec<String> = (0..3000)
        .map(|index| format!("value-{index:05}-{index:x}"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let rules = with_values(&many);
    assert_eq!(message(&rules, "x value-00042-2a y"), "x [REDACTED] y");
    assert_eq!(message(&rules, "x value-99999-2a y"), "x value-99999-2a y");

    // A text that repeats all but the end of a value.
    let long = format!("{}b", "a".repeat(VALUE_BYTES_MAX - 1));
    let rules = with_values(&[&long]);
    let redacted = message(&rules, &"a".repeat(1 << 17));
    assert!(redacted == "[REDACTED]" || redacted.len() == 1 << 17);
    assert!(!message(&rules, &format!("x{long}y")).contains('b'));
}
