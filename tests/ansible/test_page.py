from tests.support.provisioning_page import PAGE, with_reference


def test_the_page_lists_every_variable_as_the_roles_specify_it() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_reference(page), "run: python -m tests.support.provisioning_page"
