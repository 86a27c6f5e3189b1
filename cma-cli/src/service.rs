//! What a server serves, and to whom: from the options of `cma serve`, or from the file of
//! `--config`. Both are read by the same parsers.

use crate::notice::TextName;
use crate::options::{ServeArgs, values};
use crate::outcome::CommandError;
use cma_board::service_file::{ServerSettings, Setting};
use cma_board::{BoardError, TracedText};
use cma_device_server::{Limits, Rules};
use cma_metrics::Endpoint;
use std::fmt::Display;
use std::path::PathBuf;

/// The permissions of a socket unless the user says otherwise: for the server's user and group.
const SOCKET_MODE: u32 = 0o660;

/// The settings of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) mount: Option<PathBuf>,
    pub(crate) socket: Option<SocketSettings>,
    pub(crate) limits: Limits,
    pub(crate) rules: Rules,
    /// Whether the rules were given, and admit nobody.
    pub(crate) has_empty_rules: bool,
    pub(crate) metrics: Option<Endpoint>,
    pub(crate) plugin_dirs: Vec<PathBuf>,
    pub(crate) record: Option<PathBuf>,
    pub(crate) log: Option<String>,
}

/// The socket for chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketSettings {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    /// `None` leaves it to the server's own group.
    pub(crate) group: Option<u32>,
}

impl Service {
    /// The settings of the options.
    pub(crate) fn of_options(args: &ServeArgs) -> Result<Service, CommandError> {
        let config_error = |option: &str| {
            let name = TextName(option.to_string());
            move |error| CommandError::Access(name, error)
        };
        let rules = args.rules.as_deref();
        Ok(Service {
            mount: args.mount.clone(),
            socket: args.socket.clone().map(|path| SocketSettings {
                path,
                mode: args.socket_mode.unwrap_or(SOCKET_MODE),
                group: args.socket_group,
            }),
            limits: Limits::parse(&args.limits).map_err(config_error("--limits"))?,
            rules: rules
                .map_or(Ok(Rules::default()), Rules::parse)
                .map_err(config_error("--rules"))?,
            has_empty_rules: rules.is_some_and(|rules| rules.trim().is_empty()),
            metrics: args.metrics.clone(),
            plugin_dirs: Vec::new(),
            record: args.record.clone(),
            log: args.log.clone(),
        })
    }

    /// The settings of a file.
    ///
    /// # Errors
    ///
    /// The first mistake, with its place in the file.
    pub(crate) fn of_file(file: &ServerSettings) -> Result<Service, BoardError> {
        let paths = [&file.mount, &file.socket, &file.record].into_iter().flatten();
        if let Some(empty) = paths.chain(&file.plugin_dirs).find(|setting| setting.text.is_empty())
        {
            return Err(empty.error(&"expected a path"));
        }
        let path = |setting: &Option<Setting>| setting.as_ref().map(|it| PathBuf::from(&it.text));
        let text = |traced: &Option<TracedText>| {
            traced.as_ref().map_or(String::new(), |traced| traced.text().to_string())
        };
        if file.socket.is_none()
            && let Some(setting) = file.socket_mode.as_ref().or(file.socket_group.as_ref())
        {
            return Err(setting.error(&"there is no socket; name one with socket = \"PATH\""));
        }
        let mode = parsed(&file.socket_mode, values::mode)?;
        let group = parsed(&file.socket_group, values::group)?;
        let no_text = TracedText::default();
        let limits = Limits::parse(&text(&file.limits))
            .map_err(|error| file.limits.as_ref().unwrap_or(&no_text).error(&error))?;
        let rules = match &file.rules {
            None => Rules::default(),
            Some(rules) => Rules::parse(rules.text()).map_err(|error| rules.error(&error))?,
        };
        Ok(Service {
            mount: path(&file.mount),
            socket: path(&file.socket).map(|path| SocketSettings {
                path,
                mode: mode.unwrap_or(SOCKET_MODE),
                group,
            }),
            limits,
            rules,
            has_empty_rules: file.rules.as_ref().is_some_and(|it| it.text().trim().is_empty()),
            metrics: parsed(&file.metrics, |text: &str| text.parse::<Endpoint>())?,
            plugin_dirs: file.plugin_dirs.iter().map(|it| PathBuf::from(&it.text)).collect(),
            record: path(&file.record),
            log: parsed(&file.log, |text: &str| log_levels(text).map(|()| text.to_string()))?,
        })
    }

    /// The settings with the options that may be given beside a file: they win.
    pub(crate) fn with_options(self, args: &ServeArgs) -> Service {
        let record = args.record.clone().or(self.record);
        let log = args.log.clone().or(self.log);
        Service { record, log, ..self }
    }
}

/// What `parse` makes of a setting.
fn parsed<T, E: Display>(
    setting: &Option<Setting>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, BoardError> {
    let parse = |setting: &Setting| parse(&setting.text).map_err(|error| setting.error(&error));
    setting.as_ref().map(parse).transpose()
}

/// Checks the levels of a log filter.
///
/// # Errors
///
/// The first word that is no level.
pub(crate) fn log_levels(filter: &str) -> Result<(), CommandError> {
    // EnvFilter takes a single word for a module: a misspelt level would disable everything else.
    let is_misspelt = |word: &&str| {
        !word.contains('=') && word.parse::<tracing_subscriber::filter::LevelFilter>().is_err()
    };
    match filter.split(',').map(str::trim).find(is_misspelt) {
        Some(word) => Err(CommandError::LogLevel { word: word.to_string() }),
        None => Ok(()),
    }
}
