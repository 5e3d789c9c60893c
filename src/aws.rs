//! How AWS's services are reached: one HTTP client for all of them, with bounded time.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, ConfigLoader, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

/// From the function's environment (region, credentials, `AWS_ENDPOINT_URL`); talks to nobody yet.
pub async fn from_environment() -> SdkConfig {
    from_loader(aws_config::defaults(BehaviorVersion::latest())).await
}

/// From a loader that knows where the services are, with the time limits that hold unless a service has its own.
///
/// ring instead of the SDK's default aws-lc: that one gathers entropy for some 40 ms of CPU at every cold start.
pub async fn from_loader(loader: ConfigLoader) -> SdkConfig {
    let http_client = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(2))
        .operation_timeout(Duration::from_secs(5))
        .build();
    loader
        .http_client(http_client)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .load()
        .await
}
