//! Sentences for kubectl to print. The API server cuts them at 4 KiB together, so a few must do.

const MOST: usize = 8;

/// Warnings, the first few of them.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    said: Vec<String>,
    unsaid: usize,
}

impl Warnings {
    /// Adds one; the sentence is only made if there is room for it.
    pub(crate) fn say(&mut self, sentence: impl FnOnce() -> String) {
        if self.said.len() < MOST {
            self.said.push(sentence());
        } else {
            self.unsaid += 1;
        }
    }

    pub(crate) fn into_sentences(mut self) -> Vec<String> {
        if self.unsaid > 0 {
            self.said.push(format!("and {} more warnings", self.unsaid));
        }
        self.said
    }
}
