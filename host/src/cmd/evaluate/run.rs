//! From flags to figures.

use super::{Args, document::Document, opened::Opened, tasks::Prepared};
use crate::{cli::Context, failure::Failure, model, tasks::MAX_LENGTH};
use edgewise_supernet::{Divergence, Passage, Reference, evaluate_against, perplexity};

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        // What the user typed and the files are checked before anything slow is done.
        let protocol = self.text.protocol()?;
        let text = model::held_out_text(self.text.text.as_deref())?;
        let tasks = Prepared::new(&self.tasks)?;
        let max_length = self.tasks.max_length.map_or(MAX_LENGTH, |length| length as usize);
        let asked = !tasks.is_empty();
        let opened = Opened::new(&self, context, |config| {
            if asked { max_length.min(config.max_positions).max(protocol.window) } else { protocol.window }
        })?;
        let Opened { network, sub, tokenizer, parameters } = &opened;
        let passage = Passage::encode(tokenizer, &text, network.config().vocab_size)?;
        model::check_window(network.config(), protocol.window)?;
        let found = perplexity(network, sub, &passage, protocol)?;
        let divergence = if self.text.kl { Some(self.divergence(&opened, &text)?) } else { None };
        let tasks = tasks.run(network, sub, tokenizer, max_length, context.printer)?;
        let document = Document::new(found, (self.text.definition(), protocol), *parameters, divergence, tasks);
        if context.printer.json { context.printer.json(&document) } else { context.printer.data(&document.text()) }
    }

    fn divergence(&self, opened: &Opened, text: &str) -> Result<Divergence, Failure> {
        let Opened { network, sub, tokenizer, .. } = opened;
        let on = model::evaluation(tokenizer, network.config(), text, self.text.plain_windows())?;
        let reference = Reference::new(network, &network.config().full(), &on)?;
        let (_, divergence) = evaluate_against(network, sub, &on, &reference)?;
        Ok(divergence)
    }
}
