//! From JSON to Lua.
//!
//! It takes what lua-cjson takes, which is more than JSON (hexadecimal numbers, `inf`, control characters
//! in strings) and says the same about the rest, down to the position.

use mlua::{Lua, Table, Value};

use super::{DEPTH_MAX, Settings};
use crate::datatypes::number::strtod;
use crate::scripting::native::Refusal;

/// The value of `text`.
pub fn decode(lua: &Lua, settings: Settings, text: &[u8]) -> Result<Value, Refusal> {
    // The shortest text in UTF-16 or UTF-32 has a zero in its first two bytes.
    if let [first, second, ..] = text
        && (*first == 0 || *second == 0)
    {
        const TEXT: &str = "JSON parser does not support UTF-16 or UTF-32";
        return Err(Refusal::Message(TEXT.into()));
    }
    let mut decoder = Decoder { lua, settings, text, at: 0, depth: 0 };
    let (token, index) = decoder.token();
    let value = decoder.value(token, index)?;
    match decoder.token() {
        (Token::End, _) => Ok(value),
        (token, index) => Err(expected("the end", &token, index)),
    }
}

enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Invalid(&'static str),
}

impl Token {
    /// As error texts call it.
    fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::String(_) => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::End => "T_END",
            Self::Invalid(reason) => reason,
        }
    }
}

fn expected(what: &str, token: &Token, index: usize) -> Refusal {
    let found = token.name();
    Refusal::Message(format!("Expected {what} but found {found} at character {}", index + 1))
}

struct Decoder<'a> {
    lua: &'a Lua,
    settings: Settings,
    text: &'a [u8],
    at: usize,
    depth: i64,
}

impl Decoder<'_> {
    fn value(&mut self, token: Token, index: usize) -> Result<Value, Refusal> {
        Ok(match token {
            Token::String(text) => Value::String(self.lua.create_string(text)?),
            Token::Number(number) => Value::Number(number),
            Token::Boolean(value) => Value::Boolean(value),
            Token::Null => Value::NULL,
            Token::ObjectBegin => Value::Table(self.nested(Self::object)?),
            Token::ArrayBegin => Value::Table(self.nested(Self::array)?),
            _ => return Err(expected("value", &token, index)),
        })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Table, Refusal>) -> Result<Table, Refusal> {
        self.depth += 1;
        if self.depth > self.settings.decode_depth_max.min(DEPTH_MAX) {
            let text = format!(
                "Found too many nested data structures ({}) at character {}",
                self.depth, self.at
            );
            return Err(Refusal::Message(text));
        }
        let table = read(self)?;
        self.depth -= 1;
        Ok(table)
    }

    fn object(&mut self) -> Result<Table, Refusal> {
        let table = self.lua.create_table()?;
        let (mut token, mut index) = self.token();
        if matches!(token, Token::ObjectEnd) {
            return Ok(table);
        }
        loop {
            let Token::String(key) = token else {
                return Err(expected("object key string", &token, index));
            };
            (token, index) = self.token();
            if !matches!(token, Token::Colon) {
                return Err(expected("colon", &token, index));
            }
            (token, index) = self.token();
            let value = self.value(token, index)?;
            table.raw_set(self.lua.create_string(key)?, value)?;
            (token, index) = self.token();
            match token {
                Token::ObjectEnd => return Ok(table),
                Token::Comma => {}
                _ => return Err(expected("comma or object end", &token, index)),
            }
            (token, index) = self.token();
        }
    }

    fn array(&mut self) -> Result<Table, Refusal> {
        let table = self.lua.create_table()?;
        let (mut token, mut index) = self.token();
        if matches!(token, Token::ArrayEnd) {
            return Ok(table);
        }
        for place in 1_usize.. {
            let value = self.value(token, index)?;
            table.raw_set(place, value)?;
            (token, index) = self.token();
            match token {
                Token::ArrayEnd => break,
                Token::Comma => {}
                _ => return Err(expected("comma or array end", &token, index)),
            }
            (token, index) = self.token();
        }
        Ok(table)
    }

    /// The next byte; a zero at the end, as C has it. So a zero within ends the text too.
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The next token, and where it begins (or where it breaks).
    fn token(&mut self) -> (Token, usize) {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let index = self.at;
        let simple = match self.peek(0) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            0 => return (Token::End, index),
            b'"' => return self.string(index),
            b'-' | b'0'..=b'9' => return self.number(index),
            _ => return self.word(index),
        };
        self.at += 1;
        (simple, index)
    }

    fn word(&mut self, index: usize) -> (Token, usize) {
        let rest = &self.text[index..];
        for (word, token) in [
            (b"true".as_slice(), Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                return (token, index);
            }
        }
        let first = rest.first().copied().unwrap_or(0);
        let may_be_number = matches!(first, b'+' | b'i' | b'I' | b'n' | b'N');
        if may_be_number && self.settings.decode_invalid_numbers && self.is_invalid_number() {
            return self.number(index);
        }
        (Token::Invalid("invalid token"), index)
    }

    /// Whether what comes is a number to C and none to JSON.
    fn is_invalid_number(&self) -> bool {
        if self.peek(0) == b'+' {
            return true;
        }
        let minus = usize::from(self.peek(0) == b'-');
        match self.peek(minus) {
            b'0' => matches!(self.peek(minus + 1), b'x' | b'X' | b'0'..=b'9'),
            byte if byte <= b'9' => false,
            _ => {
                let rest = &self.text[(self.at + minus).min(self.text.len())..];
                let word = rest.get(..3).unwrap_or_default();
                word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")
            }
        }
    }

    fn number(&mut self, index: usize) -> (Token, usize) {
        if !self.settings.decode_invalid_numbers && self.is_invalid_number() {
            return (Token::Invalid("invalid number"), index);
        }
        // What is after a zero byte is not seen by C.
        let rest = &self.text[index..];
        let rest = &rest[..memchr::memchr(0, rest).unwrap_or(rest.len())];
        let parsed = strtod(rest);
        if parsed.length == 0 {
            return (Token::Invalid("invalid number"), index);
        }
        self.at += parsed.length;
        (Token::Number(parsed.value), index)
    }

    fn string(&mut self, index: usize) -> (Token, usize) {
        self.at += 1;
        let mut content = Vec::new();
        loop {
            match self.peek(0) {
                b'"' => break,
                // A zero within a string ends the text as well.
                0 => return (Token::Invalid("unexpected end of string"), self.at),
                b'\\' => {
                    let broken = match self.escape(&mut content) {
                        Ok(()) => continue,
                        Err(reason) => reason,
                    };
                    return (Token::Invalid(broken), self.at);
                }
                byte => content.push(byte),
            }
            self.at += 1;
        }
        self.at += 1;
        (Token::String(content), index)
    }

    fn escape(&mut self, content: &mut Vec<u8>) -> Result<(), &'static str> {
        let byte = match self.peek(1) {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => 12,
            b'r' => b'\r',
            b'u' => return self.unicode_escape(content).ok_or("invalid unicode escape code"),
            _ => return Err("invalid escape code"),
        };
        content.push(byte);
        self.at += 2;
        Ok(())
    }

    fn unicode_escape(&mut self, content: &mut Vec<u8>) -> Option<()> {
        let mut code = self.hex(2)?;
        let mut length = 6;
        if code & 0xF800 == 0xD800 {
            // The first of a pair, which the second has to follow.
            let whole = code & 0x400 == 0 && self.peek(6) == b'\\' && self.peek(7) == b'u';
            let low = whole.then(|| self.hex(8)).flatten().filter(|low| low & 0xFC00 == 0xDC00)?;
            code = (((code & 0x3FF) << 10) | (low & 0x3FF)) + 0x1_0000;
            length = 12;
        }
        let mut utf8 = [0; 4];
        content.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut utf8).as_bytes());
        self.at += length;
        Some(())
    }

    /// Four hexadecimal digits.
    fn hex(&self, ahead: usize) -> Option<u32> {
        (ahead..ahead + 4)
            .try_fold(0, |code, at| Some(code << 4 | char::from(self.peek(at)).to_digit(16)?))
    }
}
