//! Addresses of pages, and their neighbours: the same view with one parameter changed.

use axum::http::Uri;
use std::fmt;

/// The path and the parameters of a page. Shows as a relative address, with everything escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    path: String,
    params: Vec<(String, String)>,
}

impl Address {
    /// A page without parameters.
    pub(crate) fn new(path: impl Into<String>) -> Address {
        Address {
            path: path.into(),
            params: Vec::new(),
        }
    }

    /// A page with the parameters of a query string, or of the body of a form, which has the same form.
    pub(crate) fn of_query(path: &str, query: &str) -> Address {
        Address {
            path: path.to_owned(),
            // A form sends its empty fields, too: they say nothing, and make addresses long.
            params: form_urlencoded::parse(query.as_bytes())
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The parameters in their order.
    pub(crate) fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.params.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first value of a parameter; `None` if it is missing or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.params().filter(|(of, _)| *of == name);
        values
            .next()
            .map(|(_, value)| value)
            .filter(|it| !it.is_empty())
    }

    /// All values of a parameter.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let values = self.params().filter(|(of, _)| *of == name);
        values.map(|(_, value)| value).collect()
    }

    /// The parameters as a query string, without a question mark.
    pub(crate) fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.params);
        query.finish()
    }

    /// The same address with one value for `name`, which replaces others.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl fmt::Display) -> Address {
        self.params.retain(|(of, _)| of != name);
        self.and(name, value)
    }

    /// The same address with one more value for `name`.
    #[must_use]
    pub(crate) fn and(mut self, name: &str, value: impl fmt::Display) -> Address {
        self.params.push((name.to_owned(), value.to_string()));
        self
    }

    /// The same address without the parameters of these names.
    #[must_use]
    pub(crate) fn without(mut self, names: &[&str]) -> Address {
        self.params
            .retain(|(name, _)| !names.contains(&name.as_str()));
        self
    }

    /// The same address without one value of a parameter that may have several.
    #[must_use]
    pub(crate) fn without_value(mut self, name: &str, value: &str) -> Address {
        self.params.retain(|(of, is)| !(of == name && is == value));
        self
    }

    /// The same parameters at another path.
    #[must_use]
    pub(crate) fn at(mut self, path: &str) -> Address {
        path.clone_into(&mut self.path);
        self
    }
}

impl From<&Uri> for Address {
    fn from(uri: &Uri) -> Address {
        Address::of_query(uri.path(), uri.query().unwrap_or_default())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.params.is_empty() {
            return Ok(());
        }
        write!(f, "?{}", self.query())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_change_one_parameter_and_escape_all() {
        let uri: Uri = "/logs?server=a&server=b&grep=&since=1h".parse().unwrap();
        let address = Address::from(&uri);
        assert_eq!(address.to_string(), "/logs?server=a&server=b&since=1h");
        let other = address.clone().with("since", "2h & more");
        assert_eq!(
            other.to_string(),
            "/logs?server=a&server=b&since=2h+%26+more"
        );
        assert_eq!(other.get("since"), Some("2h & more"));
        assert_eq!(
            address
                .clone()
                .without_value("server", "a")
                .and("server", "ü")
                .to_string(),
            "/logs?server=b&since=1h&server=%C3%BC"
        );
        let bare = address.without(&["server", "since"]).at("/traces");
        assert_eq!(bare, Address::new("/traces"));
        assert_eq!(bare.to_string(), "/traces");
    }
}
