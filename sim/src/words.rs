//! What the trace says, in words for people. The texts of events are the code's own debug output: here
//! they are read back as a [`Tree`], and told in plain words. Nothing but what a person reads depends
//! on it, so what it does not know is told as it stands.
//!
//! - [`names`]: what a text is about. `plain`: the sentences.

pub mod names;
mod plain;

pub use plain::{fault, money, plain};

/// Debug output as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A number, or a name without fields.
    Word(String),
    /// What was in quotes.
    Text(String),
    /// A name with fields; those of a tuple have no names.
    Node(String, Vec<(String, Tree)>),
    List(Vec<Tree>),
}

impl Tree {
    pub fn name(&self) -> &str {
        match self {
            Tree::Word(name) | Tree::Node(name, _) => name,
            Tree::Text(_) | Tree::List(_) => "",
        }
    }

    /// The field of this name, without the `Some` or `Ok` around it.
    pub fn field(&self, name: &str) -> Option<&Tree> {
        let Tree::Node(_, fields) = self else { return None };
        fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.inner())
    }

    /// What is in a wrapper with one field without a name: `AccountId(8)`, `Some(…)`.
    pub fn only(&self) -> Option<&Tree> {
        match self {
            Tree::Node(_, fields) if fields.len() == 1 && fields[0].0.is_empty() => Some(&fields[0].1),
            _ => None,
        }
    }

    fn inner(&self) -> &Tree {
        match self.only() {
            Some(inner) if matches!(self.name(), "Some" | "Ok") => inner.inner(),
            _ => self,
        }
    }
}

/// Reads one value; what is left of the text after it.
pub fn parse(text: &str) -> (Tree, &str) {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('"') {
        let (text, rest) = quoted(rest);
        return (Tree::Text(text), rest);
    }
    for (open, close) in [('[', ']'), ('{', '}'), ('(', ')')] {
        if let Some(rest) = text.strip_prefix(open) {
            let (fields, rest) = fields(rest, close);
            return (Tree::List(fields.into_iter().map(|(_, value)| value).collect()), rest);
        }
    }
    let len = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    if len == 0 {
        let mut chars = text.chars();
        let odd = chars.next().map(String::from).unwrap_or_default();
        return (Tree::Word(odd), chars.as_str());
    }
    let (name, rest) = text.split_at(len);
    for (open, close) in [("(", ')'), (" {", '}')] {
        if let Some(rest) = rest.strip_prefix(open)
            && name.starts_with(|c: char| c.is_ascii_uppercase())
        {
            let (fields, rest) = fields(rest, close);
            return (Tree::Node(name.to_owned(), fields), rest);
        }
    }
    (Tree::Word(name.to_owned()), rest)
}

/// All values of a text that separates them with `;`, each with the text it was read from.
pub fn parse_all(mut text: &str) -> Vec<(&str, Tree)> {
    let mut trees = Vec::new();
    loop {
        text = text.trim_start_matches([' ', ';']);
        if text.is_empty() {
            return trees;
        }
        let (tree, rest) = parse(text);
        trees.push((&text[..text.len() - rest.len()], tree));
        text = rest;
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn quoted(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return (out, chars.as_str()),
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    (out, "")
}

fn fields(mut text: &str, close: char) -> (Vec<(String, Tree)>, &str) {
    let mut fields = Vec::new();
    loop {
        text = text.trim_start_matches([' ', ',']);
        if text.is_empty() {
            return (fields, text);
        }
        if let Some(rest) = text.strip_prefix(close) {
            return (fields, rest);
        }
        let (first, rest) = parse(text);
        // `key: value`; in a map the key may be a value itself, and is left out.
        match rest.strip_prefix(": ") {
            Some(rest) => {
                let (value, rest) = parse(rest);
                fields.push((first.name().to_owned(), value));
                text = rest;
            }
            None => {
                fields.push((String::new(), first));
                text = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_is_read_back() {
        let text =
            r#"Place { account: AccountId(1), reference: Reference("b\"4"), orders: [A { x: -3, y: None }, B] } tail"#;
        let (tree, rest) = parse(text);
        assert_eq!((tree.name(), rest), ("Place", " tail"));
        assert_eq!(tree.field("account").and_then(Tree::only), Some(&Tree::Word("1".into())));
        assert_eq!(tree.field("reference").and_then(Tree::only), Some(&Tree::Text("b\"4".into())));
        let Some(Tree::List(orders)) = tree.field("orders") else { panic!("{tree:?}") };
        assert_eq!(orders[0].field("x"), Some(&Tree::Word("-3".into())));
        assert_eq!(orders[1], Tree::Word("B".into()));
    }

    #[test]
    fn whatever_is_cut_off_or_odd_is_read_to_its_end() {
        for text in ["Place { account: AccountId(", "}{)(", "Ok(\"x", "a: b; [1, 2", "", "→ (é)"] {
            parse_all(text);
        }
        assert_eq!(parse_all(" A; B { c: 1 };").len(), 2);
    }
}
