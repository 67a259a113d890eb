from preprocessing.pascal_sentence.command.command import main

main()
