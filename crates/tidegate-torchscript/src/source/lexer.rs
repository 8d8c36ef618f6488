//! Program text to tokens, with Python's indentation as tokens of its own.

use std::rc::Rc;

/// `(line, message)` of what is not understood.
pub(super) type SyntaxError = (u32, String);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(Rc<str>),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    /// Punctuation, one to three characters.
    Mark(&'static str),
    Newline,
    Indent,
    Dedent,
    End,
}

/// Longest first.
const MARKS: [&str; 34] = [
    "**=", "//=", "->", "**", "//", "==", "!=", "<=", ">=", "<<", ">>", "+=", "-=", "*=", "/=", "(", ")",
    "[", "]", "{", "}", ",", ":", ".", "=", "+", "-", "*", "/", "%", "<", ">", "&", "|",
];

/// Deeper indentation is no program that torch wrote.
const MAX_INDENTS: usize = 100;

pub(super) fn tokens(text: &str) -> Result<Vec<(u32, Token)>, SyntaxError> {
    let mut lexer = Lexer { rest: text, line: 1, depth: 0, indents: vec![0], tokens: vec![] };
    while !lexer.rest.is_empty() {
        if lexer.is_at_line_start() {
            lexer.indentation()?;
        }
        lexer.token()?;
    }
    if !lexer.is_at_line_start() {
        lexer.push(Token::Newline);
    }
    lexer.close_indents(0)?;
    lexer.push(Token::End);
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    line: u32,
    /// Open brackets, inside which line ends mean nothing.
    depth: usize,
    indents: Vec<usize>,
    tokens: Vec<(u32, Token)>,
}

impl Lexer<'_> {
    fn push(&mut self, token: Token) {
        self.tokens.push((self.line, token));
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err((self.line, message.into()))
    }

    fn is_at_line_start(&self) -> bool {
        let last = self.tokens.last().map(|(_, token)| token);
        self.depth == 0 && matches!(last, None | Some(Token::Newline | Token::Indent | Token::Dedent))
    }

    fn skip(&mut self, n_bytes: usize) {
        self.rest = &self.rest[n_bytes..];
    }

    fn indentation(&mut self) -> Result<(), SyntaxError> {
        let width = self.rest.len() - self.rest.trim_start_matches(' ').len();
        let after = &self.rest[width..];
        if after.is_empty() || after.starts_with(['\n', '\r', '#']) {
            return Ok(());
        }
        self.skip(width);
        if width > self.indents.last().copied().unwrap_or(0) {
            if self.indents.len() >= MAX_INDENTS {
                return self.error("deeper indentation than is allowed");
            }
            self.indents.push(width);
            self.push(Token::Indent);
        }
        self.close_indents(width)
    }

    fn close_indents(&mut self, width: usize) -> Result<(), SyntaxError> {
        while self.indents.last().is_some_and(|indent| *indent > width) {
            self.indents.pop();
            self.push(Token::Dedent);
        }
        if self.indents.last() != Some(&width) {
            return self.error("indentation that fits no line above");
        }
        Ok(())
    }

    fn token(&mut self) -> Result<(), SyntaxError> {
        let Some(first) = self.rest.chars().next() else { return Ok(()) };
        match first {
            ' ' | '\t' | '\r' => self.skip(1),
            '\n' => {
                self.skip(1);
                if !self.is_at_line_start() && self.depth == 0 {
                    self.push(Token::Newline);
                }
                self.line = self.line.saturating_add(1);
            }
            '#' => self.skip(self.rest.find('\n').unwrap_or(self.rest.len())),
            '"' | '\'' => self.string(first)?,
            '0'..='9' => self.number()?,
            '_' | 'a'..='z' | 'A'..='Z' => self.name(),
            '.' if self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            _ => self.mark()?,
        }
        Ok(())
    }

    fn name(&mut self) {
        let end = self.rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let name = &self.rest[..end];
        self.push(Token::Name(name.into()));
        self.skip(end);
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        let bytes = self.rest.as_bytes();
        let is_part = |index: usize| match bytes[index] {
            b'0'..=b'9' | b'.' | b'e' | b'E' => true,
            b'+' | b'-' => matches!(bytes[index - 1], b'e' | b'E'),
            _ => false,
        };
        let end = (1..bytes.len()).find(|index| !is_part(*index)).unwrap_or(bytes.len());
        let text = &self.rest[..end];
        let token = match text.parse::<i64>() {
            Ok(value) => Some(Token::Int(value)),
            // 2^63 comes as the operand of a minus sign.
            Err(_) if text == "9223372036854775808" => Some(Token::Int(i64::MAX)),
            Err(_) => text.parse().ok().filter(|_| text.contains(['.', 'e', 'E'])).map(Token::Float),
        };
        let Some(token) = token else { return self.error("a number that is not understood") };
        self.push(token);
        self.skip(end);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<(), SyntaxError> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        let end = loop {
            match chars.next() {
                Some((index, c)) if c == quote => break index + 1,
                Some((_, '\\')) => {
                    let Some((_, escaped)) = chars.next() else { return self.error("a text without an end") };
                    match escaped {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        'x' => {
                            let mut digit = || chars.next().and_then(|(_, c)| c.to_digit(16));
                            let (high, low) = (digit(), digit());
                            let code = high.zip(low).map(|(high, low)| high * 16 + low);
                            text.push(code.and_then(char::from_u32).unwrap_or('\u{fffd}'));
                        }
                        other => text.push(other),
                    }
                }
                None | Some((_, '\n')) => return self.error("a text without an end"),
                Some((_, c)) => text.push(c),
            }
        };
        self.push(Token::Str(text.into()));
        self.skip(end);
        Ok(())
    }

    fn mark(&mut self) -> Result<(), SyntaxError> {
        let Some(mark) = MARKS.into_iter().find(|mark| self.rest.starts_with(mark)) else {
            return self.error("a character that is not understood");
        };
        match mark {
            "(" | "[" | "{" => self.depth += 1,
            ")" | "]" | "}" => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.push(Token::Mark(mark));
        self.skip(mark.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Token> {
        tokens(text).unwrap().into_iter().map(|(_, token)| token).collect()
    }

    #[test]
    fn indentation_counts_outside_brackets_only() {
        let text = "if x:\n  f(1,\n      2)\n\n  # remark\ny\n";
        let name = |text: &str| Token::Name(text.into());
        let (open, close, comma) = (Token::Mark("("), Token::Mark(")"), Token::Mark(","));
        let expected = vec![
            name("if"),
            name("x"),
            Token::Mark(":"),
            Token::Newline,
            Token::Indent,
            name("f"),
            open,
            Token::Int(1),
            comma,
            Token::Int(2),
            close,
            Token::Newline,
            Token::Dedent,
            name("y"),
            Token::Newline,
            Token::End,
        ];
        assert_eq!(kinds(text), expected);
    }

    #[test]
    fn numbers_and_texts_are_read_as_python_reads_them() {
        let text = "1.0000000000000001e-05 2. 7 9223372036854775807 'a\\n\\x41\\''";
        let expected = vec![
            Token::Float(1e-5),
            Token::Float(2.0),
            Token::Int(7),
            Token::Int(i64::MAX),
            Token::Str("a\nA'".into()),
            Token::Newline,
            Token::End,
        ];
        assert_eq!(kinds(text), expected);
    }

    #[test]
    fn broken_text_is_an_error_with_its_line() {
        for text in ["\n'open", "\nx = ?", "\n99999999999999999999", "if x:\n    y\n  z\n", "\n1.2.3"] {
            let error = tokens(text).unwrap_err();
            assert!(error.0 >= 2, "{text:?}: {error:?}");
        }
    }
}
