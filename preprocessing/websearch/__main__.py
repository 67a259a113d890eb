from preprocessing.websearch.command.command import main

main()
