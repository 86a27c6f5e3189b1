//! Parsing the parameters of `name(params)`.

use crate::InitError;

/// The parameters after an allocator's name: `key` or `key=value`, separated by commas.
///
/// The framework passes the text on unchanged, so an algorithm may define another syntax; this one
/// is common to the allocators of this project. Read the known parameters, then call
/// [`finish`](Self::finish), which refuses all others.
///
/// ```
/// use cma_api::Params;
/// let mut params = Params::parse("max-order=9,eager")?;
/// assert_eq!(params.number("max-order")?, Some(9));
/// assert!(params.flag("eager")?);
/// params.finish()?;
/// assert!(Params::parse("colour=red")?.finish().unwrap_err().to_string().contains("colour"));
/// # Ok::<(), cma_api::InitError>(())
/// ```
#[derive(Debug)]
pub struct Params<'a> {
    left: Vec<(&'a str, Option<&'a str>)>,
    known: Vec<&'static str>,
}

impl<'a> Params<'a> {
    /// Splits `text` into parameters. Text of white space alone has none.
    ///
    /// # Errors
    ///
    /// An empty parameter, or one that is given twice.
    pub fn parse(text: &'a str) -> Result<Self, InitError> {
        let mut left: Vec<(&str, Option<&str>)> = Vec::new();
        if !text.trim().is_empty() {
            for part in text.split(',') {
                let (key, value) = match part.split_once('=') {
                    Some((key, value)) => (key.trim(), Some(value.trim())),
                    None => (part.trim(), None),
                };
                if key.is_empty() {
                    return Err(InitError::new(format!("empty parameter in \"{text}\"")));
                }
                if left.iter().any(|(seen, _)| *seen == key) {
                    return Err(InitError::new(format!("parameter \"{key}\" is given twice")));
                }
                left.push((key, value));
            }
        }
        Ok(Params { left, known: Vec::new() })
    }

    fn take(&mut self, key: &'static str) -> Option<Option<&'a str>> {
        self.known.push(key);
        let at = self.left.iter().position(|(k, _)| *k == key)?;
        Some(self.left.remove(at).1)
    }

    /// Whether `key` is given. It takes no value.
    ///
    /// # Errors
    ///
    /// `key` has a value.
    pub fn flag(&mut self, key: &'static str) -> Result<bool, InitError> {
        match self.take(key) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(value)) => Err(InitError::new(format!(
                "parameter \"{key}\" takes no value, found \"{value}\""
            ))),
        }
    }

    /// The text given for `key`, such as the path of a file. It has no comma.
    ///
    /// # Errors
    ///
    /// The value is missing or empty.
    ///
    /// ```
    /// use cma_api::Params;
    /// assert_eq!(Params::parse("file=/etc/a=b")?.text("file")?, Some("/etc/a=b"));
    /// assert!(Params::parse("file=")?.text("file").is_err());
    /// # Ok::<(), cma_api::InitError>(())
    /// ```
    pub fn text(&mut self, key: &'static str) -> Result<Option<&'a str>, InitError> {
        match self.take(key) {
            None => Ok(None),
            Some(Some(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => {
                let reason = format!("parameter \"{key}\" takes a value, found nothing");
                Err(InitError::new(reason))
            }
        }
    }

    /// The decimal number given for `key`.
    ///
    /// # Errors
    ///
    /// The value is missing, or not a decimal number.
    pub fn number(&mut self, key: &'static str) -> Result<Option<u64>, InitError> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => value.and_then(|v| v.parse().ok()).map(Some).ok_or_else(|| {
                let found = value.map_or("nothing".to_string(), |v| format!("\"{v}\""));
                InitError::new(format!("parameter \"{key}\" takes a number, found {found}"))
            }),
        }
    }

    /// The decimal fraction given for `key`, such as `0.5` or `3`; not negative.
    ///
    /// # Errors
    ///
    /// The value is missing, or not digits with at most one point between them.
    ///
    /// ```
    /// use cma_api::Params;
    /// let mut params = Params::parse("share=0.25,most=4")?;
    /// assert_eq!((params.fraction("share")?, params.fraction("most")?), (Some(0.25), Some(4.0)));
    /// assert!(Params::parse("share=-1")?.fraction("share").is_err());
    /// # Ok::<(), cma_api::InitError>(())
    /// ```
    pub fn fraction(&mut self, key: &'static str) -> Result<Option<f64>, InitError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        // f64's own parser also takes signs, exponents, "inf" and "NaN".
        let is_plain = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let parsed = value.filter(is_plain).and_then(|text| text.parse().ok());
        parsed.filter(|number: &f64| number.is_finite()).map(Some).ok_or_else(|| {
            let found = value.map_or("nothing".to_string(), |text| format!("\"{text}\""));
            InitError::new(format!("parameter \"{key}\" takes a number, found {found}"))
        })
    }

    /// Refuses every parameter that was not read.
    ///
    /// # Errors
    ///
    /// The first such parameter, with the list of known ones.
    pub fn finish(self) -> Result<(), InitError> {
        let Some((unknown, _)) = self.left.first() else { return Ok(()) };
        let known = if self.known.is_empty() {
            "this allocator takes none".to_string()
        } else {
            format!("this allocator takes {}", self.known.join(", "))
        };
        Err(InitError::new(format!("unknown parameter \"{unknown}\"; {known}")))
    }
}
