//! What a caller can do about an error of the pipeline of scenes, in the words of the face that shows it.

use anyhow::anyhow;
use tidegate_geo::scene::{AreaError, Remedy, SceneError, UnnamedCrs};

/// Who shows the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// `tidegate predict`, told by flags.
    CommandLine,
    /// A job on a server, told by fields. It is taken up again by itself.
    Job,
}

impl Face {
    /// What to do, in words; `None` where the face has nothing to offer.
    fn advice(self, remedy: Remedy) -> Option<&'static str> {
        Some(match (self, remedy) {
            (Self::CommandLine, remedy) => match remedy {
                Remedy::NameCrs => "name its reference system with --assume-crs EPSG:32645 (or what it is)",
                Remedy::NameCrsOrNone => {
                    "name it with --assume-crs EPSG:32645 (or what it is), or go on without by --assume-crs none"
                }
                Remedy::NameCrsOrOtherVectors => {
                    "choose other --polygons (fgb or gpkg), or name a system with --assume-crs"
                }
                Remedy::CheckGsd => "check --gsd, or cut the scene into narrower pieces",
                Remedy::Resume => "what is done is kept, go on with --resume",
                Remedy::ResumeOrRestart => "go on with --resume, or begin again with --restart",
                Remedy::SameOrRestart => "use the same again, or begin anew with --restart",
            },
            (Self::Job, remedy) => match remedy {
                Remedy::NameCrs => {
                    "name its reference system in `options.assumeCrs` (`EPSG:32645`, or what it is)"
                }
                Remedy::NameCrsOrNone => {
                    "name it in `options.assumeCrs` (`EPSG:32645`, or what it is), or go on without by `none`"
                }
                Remedy::NameCrsOrOtherVectors => {
                    "choose other `options.polygons` (`fgb` or `gpkg`), or name a system in `options.assumeCrs`"
                }
                Remedy::CheckGsd => "check `options.gsd`, or cut the scene into narrower pieces",
                Remedy::Resume | Remedy::ResumeOrRestart | Remedy::SameOrRestart => return None,
            },
        })
    }

    /// The error in one line, with its causes, and what to do about it.
    pub fn words(self, error: &anyhow::Error) -> String {
        match remedy(error).and_then(|remedy| self.advice(remedy)) {
            Some(advice) => format!("{error:#}: {advice}"),
            None => format!("{error:#}"),
        }
    }

    /// The same as an error.
    pub fn explain(self, error: anyhow::Error) -> anyhow::Error {
        match remedy(&error).and_then(|remedy| self.advice(remedy)) {
            Some(advice) => anyhow!("{error:#}: {advice}"),
            None => error,
        }
    }
}

fn remedy(error: &anyhow::Error) -> Option<Remedy> {
    if let Some(error) = error.downcast_ref::<SceneError>() {
        return error.remedy();
    }
    if let Some(error) = error.downcast_ref::<AreaError>() {
        return error.remedy();
    }
    error.downcast_ref::<UnnamedCrs>().map(UnnamedCrs::remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_face_speaks_of_what_its_callers_can_write() {
        for remedy in Remedy::ALL {
            let flags = Face::CommandLine.advice(remedy).unwrap();
            assert!(flags.contains("--") && !flags.contains('`'), "{flags}");
            if let Some(fields) = Face::Job.advice(remedy) {
                assert!(fields.contains("`options.") && !fields.contains("--"), "{fields}");
            }
        }
    }

    #[test]
    fn the_fix_follows_what_is_wrong() {
        let error = anyhow::Error::from(UnnamedCrs);
        assert_eq!(
            Face::Job.words(&error),
            "the scene does not name its coordinate reference system: name it in `options.assumeCrs` \
             (`EPSG:32645`, or what it is), or go on without by `none`"
        );
        let error = anyhow::Error::from(SceneError::Stopped);
        assert_eq!(Face::Job.words(&error), "stopped");
        assert_eq!(
            format!("{:#}", Face::CommandLine.explain(error)),
            "stopped: what is done is kept, go on with --resume"
        );
        let other = Face::CommandLine.explain(anyhow!("no").context("failed"));
        assert_eq!(format!("{other:#}"), "failed: no");
    }
}
