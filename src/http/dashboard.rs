//! `GET /dashboard`: the page and its files. Open to everybody, since there is nothing in it: the data is the API's.

use lambda_http::{
    Body, Response,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH,
            LOCATION, VARY,
        },
    },
};
use serde_json::json;

use super::{compression, problem::Problem, set_headers};
use crate::{
    config::DashboardConfig,
    dashboard::{Asset, PAGE},
    event::{HttpRequest, HttpResponse},
};

/// The route, and what stands before the names of the page's files.
pub(super) const PATH: &str = "/dashboard";

/// The methods it answers, as `Allow` lists them.
const ALLOWED: &str = "GET, HEAD";

/// Asked again each time, and not sent again while it is the same.
const CHECKED: &str = "no-cache";

/// A file's name changes with its content.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// The page with what the configuration says of it.
#[derive(Debug)]
pub(super) struct Dashboard {
    config: Asset,
    policy: HeaderValue,
}

/// What of the path comes after the route, if it is this one.
pub(super) fn file_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(PATH)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

impl Dashboard {
    pub(super) fn new(config: &DashboardConfig) -> Self {
        let oidc = config.oidc.as_ref().map(
            |oidc| json!({"issuer": oidc.issuer, "clientId": oidc.client_id, "scope": oidc.scope}),
        );
        let text = json!({ "oidc": oidc }).to_string();
        let issuer = config.oidc.as_ref().map(|oidc| oidc.origin());
        Self {
            config: Asset::new("application/json", text),
            policy: policy(issuer),
        }
    }

    /// Answers a file of the page, or the page where `file` is empty.
    pub(super) fn answer(
        &self,
        request: &HttpRequest,
        file: &str,
    ) -> Result<HttpResponse, Problem> {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Err(Problem::method_not_allowed(ALLOWED));
        }
        let (asset, caching) = match file {
            "" => (&PAGE.page, CHECKED),
            // The page's addresses are relative to the route without it.
            "/" => return Ok(self.moved()),
            "/config.json" => (&self.config, CHECKED),
            file => {
                let asset = PAGE.assets.get(file.trim_start_matches('/'));
                let asset = asset.ok_or_else(|| Problem::not_found("the page has no such file"))?;
                (asset, FOR_EVER)
            }
        };
        let mut response = self.response(request, asset, caching);
        if request.method == "HEAD" {
            *response.body_mut() = Body::Empty;
        }
        Ok(response)
    }

    fn response(
        &self,
        request: &HttpRequest,
        asset: &Asset,
        caching: &'static str,
    ) -> HttpResponse {
        let mut response = Response::new(Body::Empty);
        self.set_headers(&mut response, asset.content_type);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        // Weak: the same content, compressed or not.
        let tag = format!("W/\"{}\"", asset.hash);
        if let Ok(value) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, value);
        }
        if is_known(&request.headers, &tag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        *response.body_mut() =
            if request.takes_binary && compression::accepts_gzip(&request.headers) {
                let coding = HeaderValue::from_static("gzip");
                response.headers_mut().insert(CONTENT_ENCODING, coding);
                Body::Binary(asset.gzip.clone())
            } else {
                Body::Text(asset.text.clone())
            };
        response
    }

    fn moved(&self) -> HttpResponse {
        let mut response = Response::new(Body::Empty);
        self.set_headers(&mut response, "text/plain; charset=utf-8");
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        // Relative: whatever a gateway has put before the route stays there.
        let headers = response.headers_mut();
        headers.insert(LOCATION, HeaderValue::from_static("../dashboard"));
        response
    }

    /// Beside what every answer carries, what a page needs.
    fn set_headers(&self, response: &mut HttpResponse, content_type: &'static str) {
        set_headers(response, content_type);
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        for (name, value) in [
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            (
                "permissions-policy",
                "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
            ),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
    }
}

/// Nothing from elsewhere, nothing inline, no markup from text, and no other origin but the issuer's.
fn policy(issuer: Option<&str>) -> HeaderValue {
    let issuer = issuer.map_or_else(String::new, |origin| format!(" {origin}"));
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{issuer}; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    // The configuration lets nothing through that is no origin.
    HeaderValue::from_str(&policy)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// Whether the caller has it already (RFC 9110, section 13.1.2).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = tag.trim_start_matches("W/");
    let lists = headers.get_all(IF_NONE_MATCH).iter();
    lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == opaque)
}
