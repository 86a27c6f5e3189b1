//! The folders of the search path, their order, and the files that are found.

use super::*;

const NO_FOLDERS: [PathBuf; 0] = [];

fn folders(search: &SearchPath) -> Vec<(&str, Origin)> {
    search.folders().map(|(folder, origin)| (folder.to_str().unwrap(), origin)).collect()
}

fn create_files(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for name in names {
        fs::write(folder.join(name), "").unwrap();
    }
}

#[test]
fn folders_of_the_user_come_before_the_environments_and_these_before_the_defaults() {
    let search = SearchPath::new(
        &["/option/b".into(), "/option/a".into()],
        Some("/env/b::/env/a".as_ref()),
        Some("/opt/bin/cma".as_ref()),
    );
    let expected = [
        ("/option/b", Origin::User),
        ("/option/a", Origin::User),
        ("/env/b", Origin::Environment),
        ("/env/a", Origin::Environment),
        ("/opt/bin/deps", Origin::Executable),
        ("/opt/bin/../lib/cma", Origin::Executable),
        ("/opt/bin", Origin::Executable),
    ];
    assert_eq!(folders(&search), expected);
}

#[test]
fn an_executable_in_a_deps_folder_searches_that_folder_first() {
    let search = SearchPath::new(&NO_FOLDERS, None, Some("/target/debug/deps/loader-1f".as_ref()));
    assert_eq!(folders(&search)[0], ("/target/debug/deps", Origin::Executable));
}

#[test]
fn without_an_executable_and_named_folders_no_folder_is_searched() {
    let search = SearchPath::new(&NO_FOLDERS, Some("".as_ref()), None);
    assert_eq!(folders(&search), []);
    assert!(search.candidates().is_empty());
}

#[test]
fn only_files_with_a_plugins_name_are_candidates() {
    let good = ["best_fit", "x", "cma_plugin"]
        .map(|name| format!("{DLL_PREFIX}cma_{name}_plugin{DLL_SUFFIX}"));
    assert!(good.iter().all(|name| is_plugin_name(name.as_ref())));
    let bad = [
        "",
        "libcma__plugin.so",
        "libcma_plugin.so",
        "libcma_a_plugin.so.1",
        "cma_a_plugin.so",
        "libcma_a.so",
    ];
    assert!(bad.iter().all(|name| !is_plugin_name(name.as_ref())));
}

#[test]
fn candidates_are_sorted_in_each_folder_and_the_first_file_of_a_name_is_listed() {
    let root = tempfile::tempdir().unwrap();
    let (user, bin) = (root.path().join("user"), root.path().join("bin"));
    create_files(&user, &["libcma_b_plugin.so", "libcma_a_plugin.so", "readme"]);
    create_files(&bin.join("deps"), &["libcma_c_plugin.so", "libcma_b_plugin.so"]);
    create_files(&root.path().join("lib/cma"), &["libcma_d_plugin.so"]);
    create_files(&bin, &["libcma_c_plugin.so", "cma"]);
    let search = SearchPath::new(std::slice::from_ref(&user), None, Some(&bin.join("cma")));
    let found: Vec<_> =
        search.candidates().into_iter().map(|candidate| candidate.unwrap()).collect();
    let expected = [
        (user.join("libcma_a_plugin.so"), Origin::User),
        (user.join("libcma_b_plugin.so"), Origin::User),
        (bin.join("deps/libcma_c_plugin.so"), Origin::Executable),
        (bin.join("../lib/cma/libcma_d_plugin.so"), Origin::Executable),
    ];
    assert_eq!(found, expected.map(|(path, origin)| Candidate { path, origin }));
}

#[test]
fn a_missing_folder_is_an_error_only_if_the_user_or_the_environment_names_it() {
    let root = tempfile::tempdir().unwrap();
    let (gone, existing, file) =
        (root.path().join("gone"), root.path().join("existing"), root.path().join("file"));
    create_files(&existing, &["libcma_a_plugin.so"]);
    create_files(root.path(), &["file"]);
    let search =
        SearchPath::new(&[gone.clone(), file], Some(gone.as_os_str()), Some(&existing.join("cma")));
    let found = search.candidates();
    let assert_error = |at: usize, words: &str| {
        let error = found[at].as_ref().unwrap_err().to_string();
        assert!(error.contains(words), "\"{words}\" is not in: {error}");
    };
    assert_error(0, "/gone: the plug-in path names this folder, but it doesn't exist");
    assert_error(1, "/file: the plug-in path names this folder, but it can't be listed");
    assert_error(2, "/gone: CMA_PLUGIN_PATH names this folder, but it doesn't exist");
    assert_eq!(found[3].as_ref().unwrap().path, existing.join("libcma_a_plugin.so"));
    assert_eq!(found.len(), 4);
}
