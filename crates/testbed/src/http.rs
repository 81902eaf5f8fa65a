//! A GET of a small page on this machine, for health and metrics.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Status and body of `http://ADDRESS:PORT/PATH`.
pub async fn get(address: &str, port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((address, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    Ok((status, body.to_owned()))
}

/// The sum of a metric over all its rows whose labels contain a text; none if there is no row.
pub fn metric(page: &str, name: &str, labels: &str) -> Option<f64> {
    let rows = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (found, value) = rest.rsplit_once(' ')?;
        let own = found.is_empty() || found.starts_with('{');
        (own && found.contains(labels)).then(|| value.parse::<f64>().ok())?
    });
    rows.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name_and_summed_over_its_rows() {
        let page = "# TYPE a gauge\na_b 3\na{x=\"1\",y=\"2\"} 2\na{x=\"1\"} 5\na{x=\"2\"} 7\n";
        assert_eq!(metric(page, "a", ""), Some(14.0));
        assert_eq!(metric(page, "a", "x=\"1\""), Some(7.0));
        assert_eq!(metric(page, "a_b", ""), Some(3.0));
        assert_eq!(metric(page, "b", ""), None);
    }
}
