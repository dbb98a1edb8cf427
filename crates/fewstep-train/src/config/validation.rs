//! What the options of validation come to: the prompts, their guidance, and whether anything is painted at all.

use std::path::Path;

use fewstep_models::pipeline::Family;

use super::validate::check;
use super::{Config, ConfigError, ValidationConfig};

/// What the reference paints.
const PROMPTS: [&str; 4] = [
    "portrait photo of a girl, photograph, highly detailed face, depth of field, moody light, golden hour, style by Dan \
     Winters, Russell James, Steve McCurry, centered, extremely detailed, Nikon D850, award winning photography",
    "Self-portrait oil painting, a beautiful cyborg with golden hair, 8k",
    "Astronaut in a jungle, cold color palette, muted colors, detailed, 8k",
    "A photo of beautiful mountain with realistic sunset and blue lake, highly detailed, masterpiece",
];

impl Config {
    /// Whether the run paints anything.
    pub fn validates(&self) -> bool {
        let every = self.validation.validation_steps;
        every > 0 && self.training_steps().is_ok_and(|steps| every <= steps)
    }

    /// What is painted: the prompts, with files replaced by their lines.
    ///
    /// # Errors
    /// A file that cannot be read, or that says nothing.
    pub fn validation_prompts(&self) -> Result<Vec<String>, ConfigError> {
        let given = &self.validation.validation_prompts;
        if given.is_empty() {
            return Ok(PROMPTS.map(str::to_owned).into());
        }
        let mut prompts = Vec::new();
        for word in given {
            let path = Path::new(word);
            // A picture of what is called notes.txt is nobody's wish.
            if !path.is_file() && !word.ends_with(".txt") {
                prompts.push(word.clone());
                continue;
            }
            let wrong = |reason: String| ConfigError::value("validation_prompts", format!("{word} {reason}"));
            let text = std::fs::read_to_string(path)
                .map_err(|error| wrong(format!("cannot be read as a file of prompts: {error}")))?;
            let before = prompts.len();
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            prompts.extend(lines.map(str::to_owned));
            if prompts.len() == before {
                return Err(wrong("has no prompts in it: write one a line".to_owned()));
            }
        }
        Ok(prompts)
    }

    /// The guidance scale of the teacher and of a whole student, as pipelines speak of it.
    pub fn validation_guidance_scale(&self) -> f64 {
        let usual = match self.family() {
            Family::Sd => 7.5,
            Family::Sdxl => 5.0,
        };
        let (least, largest) = self.w_range();
        let trained = f64::min(f64::max(usual, least + 1.0), largest + 1.0);
        self.validation.validation_guidance_scale.unwrap_or(trained)
    }

    /// The seed of the pictures' noise.
    pub fn validation_seed(&self) -> u64 {
        self.validation.validation_seed.unwrap_or(self.run.seed)
    }

    pub(super) fn validation_resolved(&self) -> ValidationConfig {
        let mut validation = self.validation.clone();
        if validation.validation_prompts.is_empty() {
            validation.validation_prompts = PROMPTS.map(str::to_owned).into();
        }
        validation.validation_guidance_scale = Some(self.validation_guidance_scale());
        validation.validation_seed = Some(self.validation_seed());
        validation
    }

    pub(super) fn validate_validation(&self) -> Result<(), ConfigError> {
        let validation = &self.validation;
        if validation.validation_steps == 0 {
            return Ok(());
        }
        for (flag, number) in [
            ("num_validation_images", validation.num_validation_images),
            (
                "validation_inference_steps",
                validation.validation_inference_steps,
            ),
        ] {
            check(flag, number > 0, || {
                "it must be at least 1; --validation_steps 0 paints nothing".to_owned()
            })?;
        }
        let most = self.distillation.num_ddim_timesteps;
        check(
            "validation_inference_steps",
            validation.validation_inference_steps <= most,
            || format!("a student takes at most the {most} steps of --num_ddim_timesteps"),
        )?;
        self.validation_prompts().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[(&str, &[&str])]) -> Config {
        let mut config = Config::default();
        for (name, words) in flags {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            config.set(name, &words).unwrap();
        }
        config
    }

    #[test]
    fn prompts_come_from_words_and_files() {
        assert_eq!(config(&[]).validation_prompts().unwrap().len(), 4);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts.txt");
        std::fs::write(&path, "a fox\n\n  two cats \n").unwrap();
        let path = path.to_str().unwrap();
        let given = config(&[("validation_prompts", &["a dog", path])]);
        assert_eq!(
            given.validation_prompts().unwrap(),
            ["a dog", "a fox", "two cats"]
        );
        std::fs::write(path, "\n").unwrap();
        for (word, reason) in [(path, "has no prompts"), ("missing.txt", "cannot be read")] {
            let error = config(&[("validation_prompts", &[word])]).validation_prompts();
            let error = error.unwrap_err().to_string();
            assert!(
                error.starts_with("--validation_prompts: ") && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn guidance_is_one_that_was_trained() {
        let scale = |flags| config(flags).validation_guidance_scale();
        assert_eq!(scale(&[]), 7.5);
        assert_eq!(scale(&[("w_max", &["6"])]), 7.0);
        assert_eq!(scale(&[("w_min", &["9"])]), 10.0);
        assert_eq!(scale(&[("validation_guidance_scale", &["2"])]), 2.0);
    }

    #[test]
    fn nothing_is_asked_of_a_run_that_paints_nothing() {
        let wrong = ("num_validation_images", &["0"][..]);
        assert!(config(&[wrong]).validate_validation().is_err());
        config(&[wrong, ("validation_steps", &["0"])])
            .validate_validation()
            .unwrap();
        let too_many = ("validation_inference_steps", &["51"][..]);
        assert!(config(&[too_many]).validate_validation().is_err());
    }
}
