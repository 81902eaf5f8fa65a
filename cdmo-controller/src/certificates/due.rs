//! What must be made, renewed or dropped now.
//!
//! Leaves live for a year and are renewed when a third of that is left. An authority lives for ten
//! years. Its successor is trusted by all sides long before it signs anything, and it is trusted
//! for as long after it signed last: no side ever meets a certificate of an authority that it has
//! not heard of. Where something is lost or damaged this cannot hold, and it is made anew at once.

/// Life of an authority in seconds: ten years.
pub const AUTHORITY_LIFE: i64 = 10 * 365 * DAY;
/// Life of a certificate that an authority signs, in seconds: a year.
pub const LEAF_LIFE: i64 = 365 * DAY;
/// Certificates count as made this many seconds earlier than they were: clocks differ.
pub const BACKDATE: i64 = 3600;
/// Seconds after which every agent and every webhook that runs has what is in its Secret: a kubelet
/// renews mounted Secrets within two minutes, and they look at their files twice a minute. API servers
/// hear of a new authority within seconds.
pub const SPREAD: i64 = DAY;

const DAY: i64 = 24 * 3600;

/// Seconds since 1970 between which a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First second.
    pub from: i64,
    /// Last second.
    pub until: i64,
}

impl Span {
    /// The span of what is made now.
    pub fn starting(now: i64, life: i64) -> Self {
        Self {
            from: now - BACKDATE,
            until: now + life,
        }
    }

    fn is_good(self, now: i64) -> bool {
        self.from <= now && now < self.until
    }

    fn made(self) -> i64 {
        self.from + BACKDATE
    }

    fn is_old(self, now: i64) -> bool {
        let life = self.until - self.from;
        !self.is_good(now) || self.until - now < life / 3
    }
}

/// What counts about an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its subject, which no other authority has.
    pub name: String,
    /// When it is good.
    pub span: Span,
    /// Whether its key is there, too.
    pub can_sign: bool,
}

/// What counts about the certificate of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Name of the authority that signed it.
    pub issuer: String,
    /// When it is good.
    pub span: Span,
}

/// Who signs from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The authority of that index.
    Known(usize),
    /// The authority that is to be made.
    New,
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says it of a certificate of its own"
)]
pub struct Due {
    /// Indices of the authorities that stay trusted.
    pub keep: Vec<usize>,
    /// Whether an authority is to be made and trusted.
    pub new_authority: bool,
    /// Who signs.
    pub signer: Signer,
    /// Whether the controller needs a certificate.
    pub controller: bool,
    /// Whether the agents need a certificate.
    pub agent: bool,
    /// Whether the webhook needs a certificate.
    pub webhook: bool,
}

/// The certificates that authorities signed; `None` for one that is not there or cannot be used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leaves<'a> {
    /// The controller's.
    pub controller: Option<&'a Leaf>,
    /// That of all agents.
    pub agent: Option<&'a Leaf>,
    /// The webhook's; nothing where there is no webhook.
    pub webhook: Option<Option<&'a Leaf>>,
}

/// Decides what is due now, given all authorities that are trusted and the certificates.
pub fn due(authorities: &[Authority], leaves: Leaves<'_>, now: i64) -> Due {
    let good = |index: &usize| authorities[*index].span.is_good(now);
    let able: Vec<usize> = (0..authorities.len())
        .filter(|&index| authorities[index].can_sign)
        .filter(good)
        .collect();
    let made = |index: &usize| authorities[*index].span.made();
    let spread = able.iter().filter(|index| made(index) + SPREAD <= now);
    let signer = spread
        .copied()
        .max_by_key(made)
        .or_else(|| able.iter().copied().min_by_key(made));
    let Some(signer) = signer else {
        return Due {
            keep: Vec::new(),
            new_authority: true,
            signer: Signer::New,
            controller: true,
            agent: true,
            webhook: leaves.webhook.is_some(),
        };
    };
    let by_signer = |leaf: Option<&Leaf>| {
        leaf.filter(|leaf| leaf.issuer == authorities[signer].name)
            .filter(|leaf| !leaf.span.is_old(now))
            .map(|leaf| leaf.span.made())
    };
    let by_controller = by_signer(leaves.controller);
    let by_agent = by_signer(leaves.agent);
    let by_webhook = leaves.webhook.map(by_signer);
    // Once all sides have long shown certificates of the signer, nobody needs those before it.
    let shown = [Some(by_controller), Some(by_agent), by_webhook];
    let settled = shown
        .into_iter()
        .flatten()
        .all(|made| made.is_some_and(|made| made + SPREAD <= now));
    let successor = |index: &usize| able.contains(index) && made(index) > made(&signer);
    let keep = (0..authorities.len())
        .filter(|index| authorities[*index].span.until > now)
        .filter(|index| *index == signer || successor(index) || !settled)
        .collect();
    let newest = able.iter().copied().max_by_key(made).unwrap_or(signer);
    Due {
        keep,
        new_authority: authorities[newest].span.is_old(now),
        signer: Signer::Known(signer),
        controller: by_controller.is_none(),
        agent: by_agent.is_none(),
        webhook: by_webhook.is_some_and(|made| made.is_none()),
    }
}

#[cfg(test)]
mod tests;
