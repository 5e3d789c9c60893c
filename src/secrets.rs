//! Secrets Manager: the one way to it, with bounded time and typed errors.

use std::{fmt, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::{
    Client,
    config::{Credentials, ProvideCredentials, SharedCredentialsProvider},
    error::ProvideErrorMetadata,
};

/// The value of a secret; neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value that must not be shown.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one who uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret could not be used; names the secret, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is no secret of that name, or it is marked for deletion.
    #[error("secret {0} does not exist: create it, or correct the variable that names it")]
    NotFound(String),
    /// The function's role may not read it.
    #[error("access to secret {0} is denied: allow secretsmanager:GetSecretValue on it")]
    AccessDenied(String),
    /// It does not hold what its reader expects.
    #[error("secret {id} is malformed: {reason}")]
    Malformed {
        /// The secret's name.
        id: String,
        /// What is missing or wrong, without any of the value.
        reason: String,
    },
    /// Secrets Manager did not answer, or not in time.
    #[error("secret {id} could not be fetched: {reason}")]
    Unavailable {
        /// The secret's name.
        id: String,
        /// The service's error code, or what went wrong on the way.
        reason: String,
    },
}

/// In a function they are variables; elsewhere somebody may have to be asked.
const CREDENTIALS_PATIENCE: Duration = Duration::from_secs(2);

/// Reads secrets.
#[derive(Debug, Clone)]
pub struct SecretStore {
    client: Client,
    credentials: Option<SharedCredentialsProvider>,
    region: Option<String>,
}

impl SecretStore {
    /// Sets up the client; talks to nobody yet.
    pub fn new(aws: &SdkConfig) -> Self {
        Self {
            client: Client::new(aws),
            credentials: aws.credentials_provider(),
            region: aws.region().map(ToString::to_string),
        }
    }

    /// The function's own credentials at AWS, which its role gives it, for what it signs itself.
    pub(crate) async fn credentials(&self) -> Result<Credentials, &'static str> {
        const NONE: &str = "no credentials of AWS";
        let provider = self.credentials.as_ref().ok_or(NONE)?;
        let provided = tokio::time::timeout(CREDENTIALS_PATIENCE, provider.provide_credentials());
        provided
            .await
            .map_or(Err(NONE), |got| got.map_err(|_| NONE))
    }

    /// The function's region.
    pub(crate) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Fetches the current version of a secret.
    ///
    /// # Errors
    ///
    /// See [`SecretError`]; five seconds are the most it takes.
    pub async fn fetch(&self, id: &str) -> Result<Secret, SecretError> {
        let answer = self
            .client
            .get_secret_value()
            .secret_id(id)
            .send()
            .await
            .map_err(|error| match error.code() {
                Some("ResourceNotFoundException" | "InvalidRequestException") => {
                    SecretError::NotFound(id.to_owned())
                }
                Some("AccessDeniedException") => SecretError::AccessDenied(id.to_owned()),
                Some(code) => SecretError::Unavailable {
                    id: id.to_owned(),
                    reason: code.to_owned(),
                },
                None => SecretError::Unavailable {
                    id: id.to_owned(),
                    reason: transport_reason(&error).to_owned(),
                },
            })?;
        match answer.secret_string() {
            Some(value) if !value.is_empty() => Ok(Secret::new(value)),
            _ => Err(SecretError::Malformed {
                id: id.to_owned(),
                reason: "it holds no text".to_owned(),
            }),
        }
    }
}

fn transport_reason<E, R>(error: &aws_sdk_secretsmanager::error::SdkError<E, R>) -> &'static str {
    use aws_sdk_secretsmanager::error::SdkError;
    match error {
        SdkError::TimeoutError(_) => "no answer in time",
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "no answer in time",
        SdkError::DispatchFailure(failure) if failure.is_io() => "no connection to Secrets Manager",
        SdkError::DispatchFailure(_) => "no region, no credentials or no connection",
        SdkError::ConstructionFailure(_) => "the request could not be built",
        _ => "an answer that could not be read",
    }
}
