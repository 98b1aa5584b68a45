//! What a conversion costs, and what is done in one go.

use std::path::PathBuf;

use super::{MEMORY, Work, blocking};
use crate::media::image;
use crate::media::options::Target;

/// What a conversion takes.
pub(super) struct Cost {
    pub(super) mib: u32,
    pub(super) animated: bool,
}

/// Known from the headers, before anything is decoded.
pub(super) async fn cost(work: Work, target: &Target, paths: &[PathBuf]) -> Result<Cost, String> {
    if work == Work::File {
        return Ok(Cost {
            mib: 1,
            animated: false,
        });
    }
    let (target, paths) = (target.clone(), paths.to_vec());
    blocking(move || {
        let mut cost = Cost {
            mib: 1,
            animated: false,
        };
        for path in paths {
            let header = image::header(&path)?;
            let needed = header.affordable(&target)?;
            cost.mib = cost
                .mib
                .max(u32::try_from(needed >> 20).unwrap_or(MEMORY) + 1);
            cost.animated |= header.animated;
        }
        Ok(cost)
    })
    .await
}

/// Stills are taken together at the place of the first; everything else is alone.
pub(super) fn group(works: &[Work]) -> Vec<(Work, Vec<usize>)> {
    let mut jobs: Vec<(Work, Vec<usize>)> = Vec::new();
    for (index, work) in works.iter().enumerate() {
        match jobs
            .iter_mut()
            .find(|(known, _)| *known == Work::Stills && *work == Work::Stills)
        {
            Some((_, members)) => members.push(index),
            None => jobs.push((*work, vec![index])),
        }
    }
    jobs
}
